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
use tokio::task::yield_now;

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
        let task = with(&self.0, |register| {
            let task = Arc::new(Task {
                number: register.next,
                tasks: Arc::downgrade(self),
                state: Mutex::new(State::Idle(work, false)),
            });
            register.next += 1;
            if !register.closed {
                register.tasks.insert(task.number, Arc::clone(&task));
            }
            (!register.closed).then(|| Arc::clone(&task)).ok_or(task)
        });
        match task {
            Ok(task) => {
                Arc::clone(&task).wake();
                task
            }
            Err(task) => {
                task.end();
                task
            }
        }
    }

    fn end(&self) {
        let tasks = with(&self.0, |register| {
            register.closed = true;
            std::mem::take(&mut register.tasks)
        });
        tasks.values().for_each(|task| task.end());
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
            work.poll_unpin(&mut Context::from_waker(&waker))
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
/// requests are one write. The client leaves it to the system to send small writes one by one, which has each wait for the
/// answer to the one before.
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
