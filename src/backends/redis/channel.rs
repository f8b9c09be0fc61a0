//! A connection on which the server tells what is published, unasked. Nothing else can be asked on it but whether it is there.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use redis::{Cmd, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

use super::replies::Replies;
use super::tls::Stream;

pub(super) struct Channel {
    stream: Box<dyn Stream>,
    replies: Replies,
}

/// What the server says on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// This was published.
    Published(Vec<u8>),
    /// From here on it tells what is published as the first of the names that it was asked for and has not confirmed yet.
    Subscribed,
    /// It answers a ping; all that was published before that was said.
    Pong,
}

impl Channel {
    /// Has the server tell on this stream what is published as `name`, from when this returns on.
    pub(super) async fn open(stream: Box<dyn Stream>, name: &str) -> Result<Self, RedisError> {
        let mut channel = Self { stream, replies: Replies::default() };
        channel.send(redis::cmd("SUBSCRIBE").arg(name)).await?;
        channel.read().await?.extract_error()?;
        Ok(channel)
    }

    /// Has it tell what is published as each of these, too; it confirms each.
    pub(super) async fn subscribe(&mut self, names: &[String]) -> io::Result<()> {
        self.send(redis::cmd("SUBSCRIBE").arg(names)).await
    }

    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.send(&redis::cmd("PING")).await
    }

    /// What it says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Said, RedisError> {
        let Value::Array(mut parts) = self.read().await?.extract_error()? else { return Err(odd()) };
        match (parts.pop(), parts.first()) {
            (Some(Value::BulkString(what)), Some(Value::BulkString(kind))) if kind == b"message" => {
                Ok(Said::Published(what))
            }
            (_, Some(Value::BulkString(kind))) if kind == b"subscribe" => Ok(Said::Subscribed),
            (_, Some(Value::BulkString(kind))) if kind == b"pong" => Ok(Said::Pong),
            _ => Err(odd()),
        }
    }

    async fn send(&mut self, command: &Cmd) -> io::Result<()> {
        self.stream.write_all(&command.get_packed_command()).await?;
        self.stream.flush().await
    }

    async fn read(&mut self) -> io::Result<Value> {
        loop {
            if let Some(value) = self.replies.next()? {
                return Ok(value);
            }
            let read = poll_fn(|context| {
                let mut room = ReadBuf::new(self.replies.room());
                Pin::new(&mut self.stream).poll_read(context, &mut room).map_ok(|()| room.filled().len())
            });
            match read.await? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
                count => self.replies.filled(count),
            }
        }
    }
}

fn odd() -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, "this is not what a channel tells").into()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    /// A channel on which the server says this, and then is silent.
    async fn told(text: &str) -> (Result<Channel, RedisError>, DuplexStream) {
        let (ours, mut theirs) = duplex(4096);
        theirs.write_all(text.as_bytes()).await.unwrap();
        (Channel::open(Box::new(ours), "w").await, theirs)
    }

    const BEGIN: &str = "*3\r\n$9\r\nsubscribe\r\n$1\r\nw\r\n:1\r\n";

    #[tokio::test]
    async fn tells_what_is_published_and_that_it_is_there() {
        let said = "*3\r\n$7\r\nmessage\r\n$1\r\nw\r\n$3\r\na\r\n\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n";
        let (channel, mut theirs) = told(&format!("{BEGIN}{BEGIN}{said}")).await;
        let mut channel = channel.unwrap();
        assert_eq!(channel.next().await.unwrap(), Said::Subscribed);
        assert_eq!(channel.next().await.unwrap(), Said::Published(b"a\r\n".to_vec()));
        assert_eq!(channel.next().await.unwrap(), Said::Pong);
        channel.ping().await.unwrap();
        channel.subscribe(&["a".to_owned(), "b".to_owned()]).await.unwrap();
        let expected = b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nw\r\n*1\r\n$4\r\nPING\r\n\
            *3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n";
        let mut sent = vec![0; expected.len()];
        theirs.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent, expected);
        drop(theirs);
        assert!(channel.next().await.unwrap_err().is_io_error());
    }

    #[tokio::test]
    async fn what_is_no_channel_is_an_error() {
        let (refused, _theirs) = told("-NOPERM no channel for you\r\n").await;
        assert_eq!(refused.err().unwrap().code(), Some("NOPERM"));
        for nonsense in ["+OK\r\n", "*0\r\n", "*2\r\n$7\r\nmessage\r\n:1\r\n"] {
            let (channel, _theirs) = told(&format!("{BEGIN}{nonsense}")).await;
            assert!(channel.unwrap().next().await.is_err(), "{nonsense:?}");
        }
    }
}
