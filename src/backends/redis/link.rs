//! Requests and replies on one stream of bytes, in order.
//!
//! A task that carries bytes for all would cost each request two switches between tasks, which on Redis take longer than the
//! request itself. So whoever asks while nobody else waits writes and reads himself. From the second who waits at the same
//! time on the task does, and writes and reads for many at once, until nobody waits any more. It also finishes what a
//! dropped request leaves: the rest of its bytes, and its reply. Nobody ever depends on a stranger's future being polled.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures_util::FutureExt as _;
use redis::{RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, TryAcquireError};

use super::replies::Replies;
use super::tls::Stream;

/// How many requests may await their replies at the same time; more wait to be sent.
const ROOM: usize = 1024;

/// While no more than so many await their replies, each is written at once; otherwise many together, as each time the server is
/// woken costs what ten requests do.
const FEW: usize = 4;

/// So many are written though more may come: the server works on them meanwhile.
const MANY: usize = 32;

type Reply = Result<Value, RedisError>;

pub(super) struct Link {
    room: Semaphore,
    line: Mutex<Line>,
    io: Mutex<Io>,
}

/// Those who await replies. Never locked over a call of the system.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Arc<Slot>>,
    /// Requests that are still to be written, and how many that are.
    unsent: Vec<u8>,
    gathered: usize,
    /// Whether replies came in plenty the last time, so that requests will.
    plenty: bool,
    carrier: Carrier,
    task: Option<Waker>,
    /// Whether the task was woken and has not looked since.
    called: bool,
    /// Why nothing can be sent any more.
    over: Option<(io::ErrorKind, String)>,
}

/// Who writes and reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Carrier {
    #[default]
    Nobody,
    /// The only one who waits.
    Caller,
    Task,
}

/// Where a reply is put down.
#[derive(Default)]
struct Slot(Mutex<Awaited>);

#[derive(Default)]
struct Awaited {
    reply: Option<Reply>,
    waker: Option<Waker>,
}

/// Whoever has the stream, until it would block. Locked before the line, never after it.
struct Io {
    stream: Box<dyn Stream>,
    sending: Vec<u8>,
    sent: usize,
    replies: Replies,
    /// What was read at once, and who awaits it.
    told: Vec<Value>,
    slots: Vec<Arc<Slot>>,
}

impl Link {
    pub(super) fn new(stream: Box<dyn Stream>) -> Arc<Self> {
        let (sending, told, slots) = (Vec::new(), Vec::new(), Vec::new());
        let io = Io { stream, sending, sent: 0, replies: Replies::default(), told, slots };
        Arc::new(Self { room: Semaphore::new(ROOM), line: Mutex::default(), io: Mutex::new(io) })
    }

    /// Sends a request and awaits its reply. Dropped, it is sent as a whole or not at all.
    pub(super) async fn ask(&self, request: &[u8]) -> Reply {
        // There is room but for the busiest, so that to wait for it need not weigh upon every request.
        let permit = match self.room.try_acquire() {
            Err(TryAcquireError::NoPermits) => self.room.acquire().boxed().await.ok(),
            permit => permit.ok(),
        };
        match permit {
            // It is free again when the reply was read.
            Some(permit) => permit.forget(),
            None => return Err(lock(&self.line).why()),
        }
        let mut asked = self.enqueue(request)?;
        poll_fn(|context| asked.poll(context)).await
    }

    /// What carries for many; ends when nothing can be sent any more.
    pub(super) async fn carry(self: Arc<Self>) {
        poll_fn(|context| self.poll_carry(context)).await;
    }

    /// Whether it has broken, so that nothing can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        if lock(&self.line).carrier == Carrier::Nobody {
            // Nobody would notice that the other side closed it.
            self.drive(Carrier::Nobody, &mut Context::from_waker(Waker::noop()));
        }
        lock(&self.line).over.is_some()
    }

    /// Gives the stream away, for another use. Nobody awaits anything.
    pub(super) fn take_stream(&self) -> Box<dyn Stream> {
        self.end(&io::ErrorKind::NotConnected.into());
        std::mem::replace(&mut lock(&self.io).stream, Box::new(tokio::io::empty()))
    }

    fn enqueue(&self, request: &[u8]) -> Result<Asked<'_>, RedisError> {
        let slot = Arc::new(Slot::default());
        let mut line = lock(&self.line);
        if line.over.is_some() {
            return Err(line.why());
        }
        line.unsent.extend_from_slice(request);
        line.gathered += 1;
        line.waiting.push_back(Arc::clone(&slot));
        let alone = line.carrier == Carrier::Nobody && !line.plenty;
        if alone {
            line.carrier = Carrier::Caller;
            return Ok(Asked { link: self, slot, alone });
        }
        line.carrier = Carrier::Task;
        let now = line.gathered >= MANY || line.waiting.len() <= FEW && !line.plenty;
        let task = line.call();
        drop(line);
        if now && let Ok(mut io) = self.io.try_lock() {
            // What cannot be written now, or fails, is for the task.
            let _ = self.flush(&mut io, &mut Context::from_waker(Waker::noop()));
        }
        wake(task);
        Ok(Asked { link: self, slot, alone })
    }

    fn poll_carry(&self, context: &mut Context<'_>) -> Poll<()> {
        lock(&self.line).look(context.waker());
        self.drive(Carrier::Task, context);
        if lock(&self.line).over.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes and reads what can be now, if `carrier` is who should.
    fn drive(&self, carrier: Carrier, context: &mut Context<'_>) {
        let mut io = lock(&self.io);
        // Whoever became the carrier meanwhile must be the last to say whom the stream is to wake.
        if lock(&self.line).carrier != carrier {
            return;
        }
        if let Err(error) = self.try_drive(&mut io, context) {
            self.end(&error);
        }
        let mut line = lock(&self.line);
        if line.waiting.is_empty() && line.unsent.is_empty() {
            line.carrier = Carrier::Nobody;
        }
    }

    fn try_drive(&self, io: &mut Io, context: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(Err(error)) = self.flush(io, context) {
            return Err(error);
        }
        loop {
            let mut room = ReadBuf::new(io.replies.room());
            match Pin::new(&mut io.stream).poll_read(context, &mut room) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            let read = room.filled().len();
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
            }
            io.replies.filled(read);
            self.put_down(io)?;
        }
    }

    /// Puts down the replies that were read, each where it is awaited.
    fn put_down(&self, io: &mut Io) -> io::Result<()> {
        let cut = loop {
            match io.replies.next() {
                Ok(Some(reply)) => io.told.push(reply),
                cut => break cut,
            }
        };
        let mut line = lock(&self.line);
        let (told, awaited) = (io.told.len(), io.told.len().min(line.waiting.len()));
        if told > 0 {
            line.plenty = told > FEW;
        }
        io.slots.extend(line.waiting.drain(..awaited));
        drop(line);
        self.room.add_permits(awaited);
        for (slot, reply) in io.slots.drain(..).zip(io.told.drain(..)) {
            slot.put(reply.extract_error());
        }
        if awaited < told {
            return Err(io::Error::other("a reply that nobody awaits"));
        }
        cut.map(drop)
    }

    fn flush(&self, io: &mut Io, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if io.sent == io.sending.len() {
                io.sending.clear();
                io.sent = 0;
                lock(&self.line).hand_over(&mut io.sending);
                if io.sending.is_empty() {
                    return Pin::new(&mut io.stream).poll_flush(context);
                }
            }
            let written = ready!(Pin::new(&mut io.stream).poll_write(context, &io.sending[io.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            io.sent += written;
        }
    }

    /// Nothing can be sent any more: tells all who wait, and the task.
    fn end(&self, error: &io::Error) {
        let mut line = lock(&self.line);
        line.over = Some((error.kind(), error.to_string()));
        line.unsent.clear();
        line.gathered = 0;
        let (waiting, why) = (std::mem::take(&mut line.waiting), |line: &Line| line.why());
        let told: Vec<_> = waiting.into_iter().map(|slot| (slot, why(&line))).collect();
        let task = line.task.take();
        drop(line);
        self.room.close();
        for (slot, why) in told {
            slot.put(Err(why));
        }
        wake(task);
    }
}

impl Line {
    /// What wakes the task, if it has to be woken.
    fn call(&mut self) -> Option<Waker> {
        let task = self.task.as_ref().filter(|_| !self.called)?.clone();
        self.called = true;
        Some(task)
    }

    /// The task looks.
    fn look(&mut self, waker: &Waker) {
        self.called = false;
        match &mut self.task {
            Some(task) => task.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Gives away what is to be written, for an empty buffer.
    fn hand_over(&mut self, buffer: &mut Vec<u8>) {
        std::mem::swap(buffer, &mut self.unsent);
        self.gathered = 0;
    }

    fn why(&self) -> RedisError {
        match &self.over {
            Some((kind, why)) => io::Error::new(*kind, why.clone()).into(),
            None => io::Error::from(io::ErrorKind::NotConnected).into(),
        }
    }
}

/// A request that was put into the line.
struct Asked<'a> {
    link: &'a Link,
    slot: Arc<Slot>,
    /// Whether he found nobody else waiting.
    alone: bool,
}

impl Asked<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Reply> {
        // What he puts down for himself must not wake him: he would be polled once more, for nothing.
        if self.alone && !self.slot.hush() {
            self.link.drive(Carrier::Caller, context);
        }
        self.slot.take(context)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut line = lock(&self.link.line);
        // Only of one who is no longer polled, and had no reply.
        if self.alone && line.carrier == Carrier::Caller && !line.waiting.is_empty() {
            line.carrier = Carrier::Task;
            let task = line.call();
            drop(line);
            wake(task);
        }
    }
}

impl Slot {
    fn put(&self, reply: Reply) {
        let mut awaited = lock(&self.0);
        awaited.reply = Some(reply);
        let waker = awaited.waker.take();
        drop(awaited);
        wake(waker);
    }

    /// Wakes nobody until the next look; says whether the reply is there.
    fn hush(&self) -> bool {
        let mut awaited = lock(&self.0);
        awaited.waker = None;
        awaited.reply.is_some()
    }

    fn take(&self, context: &mut Context<'_>) -> Poll<Reply> {
        let mut awaited = lock(&self.0);
        if let Some(reply) = awaited.reply.take() {
            return Poll::Ready(reply);
        }
        match &mut awaited.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
