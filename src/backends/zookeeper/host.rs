//! Where a store's connections run: on whatever thread wakes them. Whoever asks sends, and the client's thread for sockets
//! receives and keeps the sessions alive. So no other thread must be woken for either, no runtime of the user's can hold up
//! a heartbeat, and none takes the connections along when it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::{unconstrained, yield_now};

type Work = BoxFuture<'static, ()>;

/// Runs tasks until it is dropped, and all of them with it.
#[derive(Default)]
pub(super) struct Host {
    tasks: Arc<Tasks>,
}

impl Host {
    /// Runs something. It ends with what is returned.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let (tell, done) = oneshot::channel();
        let work = async move { drop(tell.send(work.await)) };
        Running { task: self.tasks.start(work.boxed()), done }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

/// Something that runs, until it is done or this is dropped.
pub(super) struct Running<T> {
    task: Arc<Task>,
    done: oneshot::Receiver<T>,
}

impl<T> Running<T> {
    /// What came of it; `None` when it could not end.
    pub(super) async fn done(mut self) -> Option<T> {
        (&mut self.done).await.ok()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.end();
    }
}

/// The tasks that are not over.
#[derive(Default)]
struct Tasks(Mutex<Register>);

#[derive(Default)]
struct Register {
    tasks: HashMap<u64, Arc<Task>>,
    next: u64,
    closed: bool,
}

struct Task {
    number: u64,
    tasks: Weak<Tasks>,
    state: Mutex<State>,
}

enum State {
    /// Nobody polls it; whether somebody should.
    Idle(Work, bool),
    /// Somebody does; whether it was woken meanwhile.
    Polled(bool),
    Over,
}

fn with<T, R>(mutex: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Tasks {
    fn start(self: &Arc<Self>, work: Work) -> Arc<Task> {
        let (task, closed) = with(&self.0, |register| {
            let state = Mutex::new(State::Idle(work, false));
            let task = Arc::new(Task { number: register.next, tasks: Arc::downgrade(self), state });
            register.next += 1;
            if !register.closed {
                register.tasks.insert(task.number, Arc::clone(&task));
            }
            (task, register.closed)
        });
        if closed {
            task.end();
        } else {
            Arc::clone(&task).wake();
        }
        task
    }

    fn end(&self) {
        let tasks = with(&self.0, |register| {
            register.closed = true;
            std::mem::take(&mut register.tasks)
        });
        for task in tasks.values() {
            task.end();
        }
    }
}

impl Task {
    /// Polls it as long as it is woken, unless somebody does already.
    fn run(self: &Arc<Self>) {
        let begin = |state: &mut State| match std::mem::replace(state, State::Polled(false)) {
            State::Idle(work, true) => Some(work),
            other => {
                *state = other;
                None
            }
        };
        let Some(mut work) = with(&self.state, begin) else { return };
        while self.poll(&mut work).is_pending() {
            match self.rest(work) {
                Some(again) => work = again,
                None => return,
            }
        }
        self.end();
    }

    fn poll(self: &Arc<Self>, work: &mut Work) -> Poll<()> {
        let waker = Waker::from(Arc::clone(self));
        // The client spawns what serves a connection while it connects.
        let here = Here(&self.tasks);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _scope = spawns_core::enter(&here);
            // Who wakes it may be a task of tokio's that may poll no more for now. Each poll of ours would be in vain, then, and
            // ask for another at once.
            pin!(unconstrained(work)).poll(&mut Context::from_waker(&waker))
        }));
        // What panicked is over, and none of the concern of whoever woke it.
        polled.unwrap_or(Poll::Ready(()))
    }

    /// Puts it back until it is woken; what is to be polled again at once is returned.
    fn rest(&self, work: Work) -> Option<Work> {
        let (again, ended) = with(&self.state, |state| match state {
            State::Polled(true) => {
                *state = State::Polled(false);
                (Some(work), None)
            }
            State::Over => (None, Some(work)),
            _ => {
                *state = State::Idle(work, false);
                (None, None)
            }
        });
        drop(ended);
        again
    }

    /// Drops it; whoever polls it does so afterwards.
    fn end(&self) {
        let before = with(&self.state, |state| std::mem::replace(state, State::Over));
        let known =
            self.tasks.upgrade().map(|tasks| with(&tasks.0, |register| register.tasks.remove(&self.number)));
        drop((before, known));
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let due = with(&self.state, |state| match state {
            State::Idle(_, woken) => {
                *woken = true;
                true
            }
            State::Polled(woken) => {
                *woken = true;
                false
            }
            State::Over => false,
        });
        if due && let Some(task) = hold(self) {
            holding(|| task.run());
        }
    }
}

/// Lets what the client spawns run where what spawns it does.
struct Here<'a>(&'a Weak<Tasks>);

impl spawns_core::Spawn for Here<'_> {
    fn spawn(&self, task: spawns_core::Task) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.start(Box::into_pin(task.future));
        }
    }
}

thread_local! {
    /// The tasks that this thread has woken while it is in a [`Scope`].
    static HELD: RefCell<Option<Vec<Arc<Task>>>> = const { RefCell::new(None) };
}

/// Keeps a task for later if this thread is in a scope; else it is returned.
fn hold(task: Arc<Task>) -> Option<Arc<Task>> {
    let mut task = Some(task);
    // A thread that is about to end is in none.
    let _ = HELD.try_with(|held| {
        if let Some(held) = held.borrow_mut().as_mut() {
            held.extend(task.take());
        }
    });
    task
}

/// As long as this lives, the tasks that its thread wakes are held. In another, it does nothing.
struct Scope {
    outermost: bool,
}

impl Scope {
    fn enter() -> Self {
        let entered = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            let outermost = held.is_none();
            held.get_or_insert_default();
            outermost
        });
        Self { outermost: entered.unwrap_or(false) }
    }

    fn held(&mut self) -> Held {
        let outermost = std::mem::take(&mut self.outermost);
        let held = outermost.then(|| HELD.try_with(|held| held.borrow_mut().take()).ok()).flatten();
        Held(held.flatten().unwrap_or_default())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(self.held());
    }
}

/// Tasks that are polled when this is dropped, unless somebody did so before.
struct Held(Vec<Arc<Task>>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut next = 0;
        while let Some(task) = self.0.get(next).cloned() {
            let mut more = holding(|| task.run()).1;
            self.0.append(&mut more.0);
            next += 1;
        }
    }
}

/// Does something in a scope.
fn holding<T>(work: impl FnOnce() -> T) -> (T, Held) {
    let mut scope = Scope::enter();
    let done = work();
    (done, scope.held())
}

/// Sends what `work` asks for when all else on this runtime has had its turn, and so along with what that asks for: many
/// requests are one write, or two round trips at most. The client leaves it to the system to send small writes one by one,
/// which has each wait for the answer to the one before.
pub(super) async fn gathered<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        let turn = poll_fn(|context| match holding(|| work.as_mut().poll(context)) {
            (Poll::Pending, held) if held.0.is_empty() => Poll::Pending,
            turn => Poll::Ready(turn),
        });
        let (polled, held) = turn.await;
        if let Poll::Ready(done) = polled {
            return done;
        }
        yield_now().await;
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use futures_util::future::{join_all, pending};
    use tokio::sync::mpsc;

    use super::*;

    /// Counts what it is sent, and how often it is polled for that.
    fn counting(host: &Host, polls: &Arc<AtomicUsize>, until: usize) -> (mpsc::Sender<()>, Running<usize>) {
        let (send, mut asked) = mpsc::channel(until);
        let polls = Arc::clone(polls);
        let mut count = 0;
        let counted = host.run(poll_fn(move |context| {
            polls.fetch_add(1, Ordering::Relaxed);
            while count < until && asked.poll_recv(context).is_ready() {
                count += 1;
            }
            if count == until { Poll::Ready(count) } else { Poll::Pending }
        }));
        (send, counted)
    }

    #[tokio::test]
    async fn a_task_is_polled_by_whoever_wakes_it() {
        let host = Host::default();
        let (wake, woken) = oneshot::channel();
        let polled = host.run(async move {
            woken.await.unwrap();
            thread::current().id()
        });
        let waker = thread::spawn(move || {
            wake.send(()).unwrap();
            thread::current().id()
        });
        assert_eq!(polled.done().await, Some(waker.join().unwrap()));
    }

    #[tokio::test]
    async fn who_is_woken_while_he_is_polled_is_polled_again() {
        let host = Host::default();
        let mut polls = 0;
        let polled = host.run(poll_fn(move |context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(polls);
            }
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake()).join().unwrap();
            Poll::Pending
        }));
        assert_eq!(polled.done().now_or_never(), Some(Some(2)));
    }

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_seen_at_once() {
        let (host, polls) = (Host::default(), Arc::default());
        let (send, counted) = counting(&host, &polls, 64);
        let ask = || {
            gathered(async {
                send.try_send(()).unwrap();
                yield_now().await;
            })
        };
        join_all((0..64).map(|_| ask())).await;
        assert_eq!(counted.done().await, Some(64));
        assert_eq!(polls.load(Ordering::Relaxed), 2, "at first, and with all");
    }

    #[tokio::test]
    async fn who_wakes_it_may_have_used_up_its_turn() {
        let (host, polls) = (Host::default(), Arc::<AtomicUsize>::default());
        let (send, mut asked) = mpsc::channel(1000);
        let counted = host.run({
            let (polls, mut count) = (Arc::clone(&polls), 0);
            poll_fn(move |context| {
                while asked.poll_recv(context).is_ready() {
                    count += 1;
                }
                let polls = polls.fetch_add(1, Ordering::Relaxed);
                if count == 1000 || polls > 10 { Poll::Ready(count) } else { Poll::Pending }
            })
        });
        // More than tokio lets a task receive at once.
        let ((), held) = holding(|| (0..1000).for_each(|_| send.try_send(()).unwrap()));
        drop(held);
        assert_eq!(counted.done().await, Some(1000));
        assert_eq!(polls.load(Ordering::Relaxed), 2, "at first, and with all");
    }

    #[tokio::test]
    async fn who_gives_up_has_asked_all_the_same() {
        let (host, polls) = (Host::default(), Arc::default());
        let (send, counted) = counting(&host, &polls, 1);
        let asking = gathered(async {
            send.try_send(()).unwrap();
            pending::<()>().await;
        });
        assert!(asking.now_or_never().is_none());
        assert_eq!(counted.done().await, Some(1));
    }

    #[tokio::test]
    async fn they_end_with_the_host_or_with_who_waits_for_them() {
        let (host, other) = (Host::default(), Host::default());
        let held = Arc::new(());
        let work = || {
            let held = Arc::clone(&held);
            async move {
                // What a task spawns ends with the host as well.
                let kept = Arc::clone(&held);
                drop(spawns_core::spawn(async move {
                    pending::<()>().await;
                    drop(kept);
                }));
                pending::<()>().await;
                drop(held);
            }
        };
        let running = host.run(work());
        let given_up = other.run(work());
        assert_eq!(Arc::strong_count(&held), 5);
        drop(given_up);
        assert_eq!(Arc::strong_count(&held), 4, "what it has spawned ends with the host");
        drop(host);
        assert_eq!(Arc::strong_count(&held), 2);
        assert_eq!(running.done().await, None);
        drop(other);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_task_may_end_itself() {
        let host = Host::default();
        let (own, waker) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
        let held = Arc::new(());
        let (wake, woken) = oneshot::channel::<()>();
        let running = {
            let (own, waker, held) = (Arc::clone(&own), Arc::clone(&waker), Arc::clone(&held));
            host.run(async move {
                // Whoever may still wake it keeps nothing of it.
                let own_waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
                with(&waker, |waker| *waker = Some(own_waker));
                woken.await.unwrap();
                drop(with(&own, Option::<Running<()>>::take));
                pending::<()>().await;
                drop(held);
            })
        };
        with(&own, |own| *own = Some(running));
        wake.send(()).unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        with(&waker, Option::take).unwrap().wake();
    }

    #[tokio::test]
    async fn a_panic_is_not_that_of_who_wakes() {
        let host = Host::default();
        let (wake, woken) = oneshot::channel::<()>();
        let running = host.run(async move {
            woken.await.unwrap();
            panic!("as a test");
        });
        wake.send(()).unwrap();
        assert_eq!(running.done().await, None::<()>);
    }
}
