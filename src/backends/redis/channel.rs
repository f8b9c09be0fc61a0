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
