//! Connections that send at once what is written in close succession.
//!
//! A request of gRPC is a head, a body and an end, which different tasks of the client make, one after the other; each is
//! flushed as soon as it is there. That would be three calls of the system, and a server that is woken three times, which
//! is a good part of what a request takes. So before anything goes out those tasks have their turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::Uri;
use tower_service::Service;

/// How many turns others have at most before bytes go out. A request takes three, of which the last brings nothing more.
const TURNS: u8 = 4;

/// So much goes out though more may come.
const MOST: usize = 16 * 1024;

/// Opens such connections, in all else as `tonic` opens its own.
#[derive(Clone, Debug)]
pub(super) struct Connector(HttpConnector);

impl Connector {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(timeout);
        Self(connector)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Gathering<TcpStream>>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        async move { Ok(TokioIo::new(Gathering::new(connecting.await?.into_inner()))) }.boxed()
    }
}

/// A stream that keeps what is written while each turn of the others brings more.
#[derive(Debug)]
pub(super) struct Gathering<S> {
    stream: S,
    unsent: BytesMut,
    /// How many turns others have had since something was sent, and how much there was before the last.
    turns: u8,
    before: usize,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn new(stream: S) -> Self {
        Self { stream, unsent: BytesMut::new(), turns: 0, before: 0 }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        (self.turns, self.before) = (0, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unsent.len() + bytes.len() > MOST {
            ready!(self.poll_send(context))?;
            if bytes.len() > MOST {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            }
        }
        self.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.len() > self.before && self.turns < TURNS {
            (self.turns, self.before) = (self.turns + 1, self.unsent.len());
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What was sent, each time; it takes so many bytes at most, and wants to be asked again after each time.
    struct Line {
        sent: Vec<Vec<u8>>,
        most: usize,
        full: bool,
    }

    impl AsyncWrite for Line {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if std::mem::replace(&mut self.full, false) {
                return Poll::Pending;
            }
            let taken = bytes.len().min(self.most);
            self.full = taken < bytes.len();
            self.sent.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.sent.push(b"over".to_vec());
            Poll::Ready(Ok(()))
        }
    }

    fn gathering(most: usize) -> Gathering<Line> {
        Gathering::new(Line { sent: Vec::new(), most, full: false })
    }

    fn write(stream: &mut Gathering<Line>, bytes: &[u8]) {
        stream.write_all(bytes).now_or_never().expect("it takes it").expect("it takes it");
    }

    /// Whether all is sent after this turn.
    fn flush(stream: &mut Gathering<Line>) -> bool {
        Pin::new(stream).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_others_write_in_their_turns_goes_along() {
        let mut stream = gathering(usize::MAX);
        assert!(flush(&mut stream), "there is nothing to send");
        for _ in 0..2 {
            for frame in [&b"head "[..], b"body ", b"end"] {
                write(&mut stream, frame);
                assert!(!flush(&mut stream), "the others have a turn");
            }
            assert!(flush(&mut stream), "they had nothing more");
        }
        assert_eq!(stream.stream.sent, [b"head body end"; 2]);
    }

    #[test]
    fn whoever_lets_others_have_a_turn_is_woken() {
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (mut stream, woken) = (gathering(usize::MAX), Arc::new(Woken::default()));
        write(&mut stream, b"alone");
        let waker = Waker::from(Arc::clone(&woken));
        assert!(Pin::new(&mut stream).poll_flush(&mut Context::from_waker(&waker)).is_pending());
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(flush(&mut stream), "they had nothing");
    }

    #[test]
    fn it_goes_out_though_more_comes_each_time() {
        let mut stream = gathering(usize::MAX);
        for _ in 0..TURNS {
            write(&mut stream, b"x");
            assert!(!flush(&mut stream));
        }
        write(&mut stream, b"x");
        assert!(flush(&mut stream));
        assert_eq!(stream.stream.sent, [b"xxxxx"]);
        write(&mut stream, &vec![b'y'; MOST]);
        write(&mut stream, b"z");
        assert_eq!(stream.stream.sent.len(), 2, "there is no room for both");
        write(&mut stream, &vec![b'w'; MOST + 1]);
        let sizes: Vec<_> = stream.stream.sent.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, MOST, 1, MOST + 1], "what has no room goes out by itself, in its order");
    }

    #[test]
    fn a_slow_line_gets_all_of_it_in_order() {
        let mut stream = gathering(3);
        write(&mut stream, b"seven b");
        assert!(!flush(&mut stream), "the others have a turn");
        assert!(!flush(&mut stream), "there is room for three");
        assert!(!flush(&mut stream), "it is full");
        write(&mut stream, b"ytes");
        assert!((0..20).any(|_| flush(&mut stream)), "it gets there");
        assert_eq!(stream.stream.sent.concat(), b"seven bytes");
        write(&mut stream, b"end");
        stream.shutdown().now_or_never().unwrap().unwrap();
        assert_eq!(stream.stream.sent.concat(), b"seven bytesendover");
    }
}
