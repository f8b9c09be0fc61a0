use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use futures_util::task::{ArcWake, waker};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

/// The other side.
struct Server(BufReader<DuplexStream>);

impl Server {
    async fn asked(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(Duration::from_secs(10), self.0.read_line(&mut line));
        read.await.expect("it is asked").expect("it reads");
        line.trim_end().to_owned()
    }

    /// Answers so many requests by what they say.
    async fn echo(&mut self, count: usize) {
        for _ in 0..count {
            let asked = self.asked().await;
            self.0.write_all(format!("${}\r\n{asked}\r\n", asked.len()).as_bytes()).await.unwrap();
        }
    }
}

fn link() -> (Arc<Link>, Server) {
    let (ours, theirs) = duplex(64);
    (Link::new(Box::new(ours)), Server(BufReader::new(theirs)))
}

/// With the task, which has nothing to do yet.
async fn carried() -> (Arc<Link>, Server) {
    let (link, server) = link();
    tokio::spawn(Arc::clone(&link).carry());
    tokio::task::yield_now().await;
    assert!(lock(&link.line).task.is_some());
    (link, server)
}

async fn ask(link: &Link, what: &str) -> String {
    let request = format!("{what}\n");
    let reply = timeout(Duration::from_secs(10), link.ask(request.as_bytes()));
    redis::from_redis_value(reply.await.expect("a reply comes").unwrap()).unwrap()
}

#[tokio::test]
async fn whoever_is_alone_needs_no_task() {
    let (link, mut server) = link();
    for what in ["a", "b"] {
        let (told, ()) = tokio::join!(ask(&link, what), server.echo(1));
        assert_eq!(told, what);
        assert_eq!(lock(&link.line).carrier, Carrier::Nobody);
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn whoever_is_alone_is_not_woken_by_what_he_reads() {
    let (link, mut server) = link();
    let woken = Arc::new(Woken::default());
    let waker = waker(Arc::clone(&woken));
    let context = &mut Context::from_waker(&waker);
    let mut asked = pin!(link.ask(b"a\n"));
    assert!(asked.as_mut().poll(context).is_pending());
    server.echo(1).await;
    let by_the_stream = woken.0.load(Ordering::Relaxed);
    assert!(asked.as_mut().poll(context).is_ready());
    assert_eq!((by_the_stream, woken.0.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn each_of_many_has_its_own_reply() {
    let (link, mut server) = carried().await;
    let names: Vec<_> = (0..500).map(|nth| format!("request {nth}")).collect();
    let (told, ()) =
        tokio::join!(join_all(names.iter().map(|name| ask(&link, name))), server.echo(names.len()));
    assert_eq!(told, names);
    let (told, ()) = tokio::join!(ask(&link, "one more"), server.echo(1));
    assert_eq!((&*told, lock(&link.line).carrier), ("one more", Carrier::Nobody));
}

#[tokio::test]
async fn the_reply_to_a_dropped_request_is_nobody_elses() {
    let (link, mut server) = carried().await;
    // Too long to be sent at once: what was begun is finished.
    let long = "x".repeat(1000) + "\n";
    assert!(poll_immediate(link.ask(long.as_bytes())).await.is_none());
    assert_eq!(server.asked().await.len(), 1000);
    let next = async {
        assert_eq!(server.asked().await, "next");
        server.0.write_all(b"+of the dropped\r\n$4\r\nnext\r\n").await.unwrap();
    };
    let (told, ()) = tokio::join!(ask(&link, "next"), next);
    assert_eq!(told, "next");
}

#[tokio::test]
async fn nobody_waits_for_one_who_is_not_polled() {
    let (link, mut server) = carried().await;
    let mut idle = Box::pin(link.ask(b"idle\n"));
    assert!(poll_immediate(&mut idle).await.is_none());
    let (told, ()) = tokio::join!(ask(&link, "busy"), server.echo(2));
    assert_eq!(told, "busy");
    assert_eq!(idle.await.unwrap(), Value::BulkString(b"idle".to_vec()));
}

#[tokio::test]
async fn the_end_is_told_to_all() {
    let (link, server) = carried().await;
    let ends = async {
        tokio::task::yield_now().await;
        drop(server);
    };
    let told = async { tokio::join!(link.ask(b"a\n"), link.ask(b"b\n"), ends) };
    let (first, second, ()) = timeout(Duration::from_secs(10), told).await.expect("they are told");
    assert!(first.is_err() && second.is_err());
    assert!(link.is_over() && link.ask(b"c\n").await.is_err());
}

#[tokio::test]
async fn an_end_is_noticed_though_nobody_asks() {
    let (link, mut server) = carried().await;
    tokio::join!(ask(&link, "a"), server.echo(1));
    assert!(!link.is_over());
    drop(server);
    assert!(link.is_over());
}

#[tokio::test]
async fn a_reply_that_nobody_awaits_is_the_end() {
    let (link, mut server) = carried().await;
    server.0.write_all(b"+hello\r\n").await.unwrap();
    assert!(link.is_over());
}

#[tokio::test]
async fn only_so_many_wait_for_replies() {
    let (link, mut server) = carried().await;
    let many = join_all((0..=ROOM).map(|nth| {
        let link = &link;
        async move { ask(link, &nth.to_string()).await }
    }));
    let answered = async {
        for _ in 0..ROOM {
            server.asked().await;
        }
        let more = timeout(Duration::from_millis(50), server.0.fill_buf()).await;
        assert!(more.is_err(), "one more was sent");
        for _ in 0..ROOM {
            server.0.write_all(b"$1\r\nx\r\n").await.unwrap();
        }
        server.echo(1).await;
    };
    let (told, ()) = tokio::join!(many, answered);
    assert_eq!(told.iter().filter(|reply| *reply != "x").count(), 1);
}

#[tokio::test]
async fn the_server_begins_before_the_last_of_many_has_asked() {
    let (link, mut server) = carried().await;
    let mut asking: Vec<_> = (0..FEW + MANY).map(|_| Box::pin(link.ask(b"\n"))).collect();
    for asked in &mut asking {
        // The task has no turn meanwhile.
        assert!(poll_immediate(asked).await.is_none());
    }
    let written = poll_immediate(server.0.fill_buf()).await.expect("something was written").unwrap();
    assert_eq!(written.len(), FEW + MANY);
    tokio::join!(join_all(asking), server.echo(FEW + MANY));
}

#[tokio::test]
async fn after_many_replies_requests_go_together_until_there_are_few_again() {
    let (link, mut server) = carried().await;
    let many = FEW + 1;
    tokio::join!(join_all((0..many).map(|_| ask(&link, "many"))), async {
        for _ in 0..many {
            server.asked().await;
        }
        server.0.write_all("+many\r\n".repeat(many).as_bytes()).await.unwrap();
    });
    let mut gathered = Box::pin(link.ask(b"gathered\n"));
    assert!(poll_immediate(&mut gathered).await.is_none());
    assert!(poll_immediate(server.0.fill_buf()).await.is_none(), "it was written by itself");
    let (told, ()) = tokio::join!(gathered, server.echo(1));
    assert_eq!(told.unwrap(), Value::BulkString(b"gathered".to_vec()));
    let mut alone = Box::pin(link.ask(b"alone\n"));
    assert!(poll_immediate(&mut alone).await.is_none());
    assert!(poll_immediate(server.0.fill_buf()).await.is_some(), "it waits for the task");
    tokio::join!(alone, server.echo(1)).0.unwrap();
}
