//! Each trouble that a proxy makes, seen by a client of a server that sends back what it gets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::proxy::Proxy;
use crate::servers::{PATIENCE, until};
use crate::trial;

/// Long enough that what comes at all would have come.
const SILENCE: Duration = Duration::from_millis(200);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proxy::carries_both_ways_to_the_end", carries),
        trial("proxy::cuts_what_is_open_and_takes_what_is_new", cuts),
        trial("proxy::cuts_before_the_nth_request", cuts_before_request),
        trial("proxy::cuts_before_the_nth_reply", cuts_before_reply),
        trial("proxy::swallows_replies_and_cuts_when_healed", swallows),
        trial("proxy::delays_each_way", delays),
        trial("proxy::freezes_and_goes_on", freezes),
        trial("proxy::cuts_what_is_frozen", cuts_frozen),
        trial("proxy::refuses_until_healed", refuses),
    ]
}

/// Sends back what it gets, and tells of it.
struct Echo {
    address: SocketAddr,
    heard: mpsc::Receiver<Vec<u8>>,
    _task: AbortOnDropHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, heard) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.expect("it accepts");
                connections.spawn(echo(connection, tell.clone()));
            }
        });
        Self { address, heard, _task: AbortOnDropHandle::new(task) }
    }

    async fn hears(&mut self) -> Vec<u8> {
        timeout(PATIENCE, self.heard.recv()).await.expect("it hears in time").expect("it runs")
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(SILENCE, self.heard.recv()).await;
        assert!(heard.is_err(), "it heard {heard:?}");
    }
}

async fn echo(mut connection: TcpStream, tell: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            length => {
                tell.send(buffer[..length].to_vec()).await.map_err(io::Error::other)?;
                connection.write_all(&buffer[..length]).await?;
            }
        }
    }
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("it is accepted")
}

/// Sends a word and waits for it to come back.
async fn ask(connection: &mut TcpStream, word: &str) -> io::Result<()> {
    connection.write_all(word.as_bytes()).await?;
    let mut reply = vec![0; word.len()];
    timeout(PATIENCE, connection.read_exact(&mut reply)).await.expect("it is answered or refused in time")?;
    assert_eq!(reply, word.as_bytes());
    Ok(())
}

async fn says_nothing(connection: &mut TcpStream) {
    let read = timeout(SILENCE, connection.read_u8()).await;
    assert!(read.is_err(), "it read {read:?}");
}

async fn is_reset(connection: &mut TcpStream) {
    let read = timeout(PATIENCE, connection.read_u8()).await.expect("it ends in time");
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

async fn carries() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    ask(&mut connection, "one").await.expect("it is carried");
    // Its end is carried as well, and so is the server's answer to it.
    connection.shutdown().await.expect("it is open");
    let end = timeout(PATIENCE, connection.read(&mut [0; 1])).await.expect("it ends in time");
    assert_eq!(end.expect("it is no reset"), 0);
}

async fn cuts() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connections = [connect(&proxy).await, connect(&proxy).await];
    for connection in &mut connections {
        ask(connection, "one").await.expect("it is carried");
    }
    proxy.cut();
    for connection in &mut connections {
        is_reset(connection).await;
    }
    ask(&mut connect(&proxy).await, "two").await.expect("new ones are welcome");
}

async fn cuts_before_request() {
    let mut echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    proxy.cut_before_request(3);
    ask(&mut connection, "one").await.expect("the first is carried");
    ask(&mut connection, "two").await.expect("the second is carried");
    ask(&mut connection, "three").await.expect_err("the third is cut");
    assert_eq!([echo.hears().await, echo.hears().await], [b"one", b"two"]);
    echo.hears_nothing().await;
    ask(&mut connect(&proxy).await, "four").await.expect("it happens once");
}

async fn cuts_before_reply() {
    let mut echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    proxy.cut_before_reply(2);
    ask(&mut connection, "one").await.expect("the first is answered");
    ask(&mut connection, "two").await.expect_err("the second is not");
    assert_eq!([echo.hears().await, echo.hears().await], [b"one", b"two"]);
    ask(&mut connect(&proxy).await, "three").await.expect("it happens once");
}

async fn swallows() {
    let mut echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    proxy.swallow_replies();
    connection.write_all(b"one").await.expect("it is open");
    assert_eq!(echo.hears().await, b"one");
    says_nothing(&mut connection).await;
    proxy.heal();
    is_reset(&mut connection).await;
    ask(&mut connect(&proxy).await, "two").await.expect("it is healed");
}

async fn delays() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    ask(&mut connection, "one").await.expect("it is carried");
    proxy.delay(SILENCE);
    let asked = Instant::now();
    ask(&mut connection, "two").await.expect("it is carried late");
    assert!(asked.elapsed() >= 2 * SILENCE, "there and back took {:?}", asked.elapsed());
    proxy.heal();
    ask(&mut connection, "three").await.expect("it was never cut");
}

async fn freezes() {
    let mut echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut old = connect(&proxy).await;
    ask(&mut old, "one").await.expect("it is carried");
    assert_eq!(echo.hears().await, b"one");
    proxy.freeze();
    let mut new = connect(&proxy).await;
    for connection in [&mut old, &mut new] {
        connection.write_all(b"two").await.expect("nothing tells that it is frozen");
        says_nothing(connection).await;
    }
    echo.hears_nothing().await;
    proxy.heal();
    for connection in [&mut old, &mut new] {
        let mut reply = [0; 3];
        timeout(PATIENCE, connection.read_exact(&mut reply)).await.expect("in time").expect("it goes on");
        assert_eq!(&reply, b"two");
    }
}

async fn cuts_frozen() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut old = connect(&proxy).await;
    ask(&mut old, "one").await.expect("it is carried");
    proxy.freeze();
    let mut new = connect(&proxy).await;
    says_nothing(&mut new).await;
    proxy.cut();
    is_reset(&mut old).await;
    is_reset(&mut new).await;
}

async fn refuses() {
    let echo = Echo::start().await;
    let proxy = Proxy::to(echo.address).await;
    let mut connection = connect(&proxy).await;
    ask(&mut connection, "one").await.expect("it is carried");
    proxy.refuse();
    is_reset(&mut connection).await;
    until("connections are refused", PATIENCE, async || match TcpStream::connect(proxy.address()).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    proxy.heal();
    until("connections are accepted", PATIENCE, async || {
        let mut connection = TcpStream::connect(proxy.address()).await.map_err(|error| error.to_string())?;
        ask(&mut connection, "two").await.map_err(|error| error.to_string())
    })
    .await;
}
