//! A session with one ZooKeeper server, by the plain protocol: no more than the kit needs, and nobody's client library.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// Who may do what with a node: all of it, by one who is known to this scheme by this id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acl<'a>(pub(crate) &'a str, pub(crate) &'a str);

/// Everybody may do everything.
pub(crate) const OPEN: Acl<'_> = Acl("world", "anyone");

/// What the server calls a request that it refused.
fn refusal(code: i32) -> String {
    match code {
        -101 => "NoNode".to_owned(),
        -102 => "NoAuth".to_owned(),
        -110 => "NodeExists".to_owned(),
        -115 => "AuthFailed".to_owned(),
        code => format!("error {code}"),
    }
}

/// An open session. It ends with [`Plain::close`], or some time after this is dropped.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: TcpStream,
    next: i32,
}

impl Plain {
    /// Opens a session of at least so long; a majority has to agree.
    pub(crate) async fn open(server: SocketAddr, life: Duration) -> Result<Self, String> {
        let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
        let mut plain = Self { stream, next: 1 };
        let mut request = Vec::new();
        request.put_i32(0); // The version of the protocol.
        request.put_i64(0); // The newest change that was seen so far.
        request.put_i32(i32::try_from(life.as_millis()).expect("a short life"));
        request.put_i64(0); // A new session.
        put_bytes(&mut request, &[0; 16]);
        request.put_u8(0); // A server that can only read will not do.
        let answer = plain.exchange(&request).await?;
        // The version, the granted life, and the session, which is 0 if it was refused.
        let session = answer.get(8..16).map(|mut bytes| bytes.get_i64());
        match session {
            Some(0) | None => Err("no session is granted".to_owned()),
            Some(_) => Ok(plain),
        }
    }

    /// Says who asks, for example `user:password` by the scheme `digest`.
    pub(crate) async fn auth(&mut self, scheme: &str, credentials: &str) -> Result<(), String> {
        let mut body = Vec::new();
        body.put_i32(0);
        put_bytes(&mut body, scheme.as_bytes());
        put_bytes(&mut body, credentials.as_bytes());
        self.request(-4, 100, &body).await.map(drop)
    }

    /// Makes a node.
    pub(crate) async fn create(&mut self, path: &str, data: &str, acl: Acl<'_>) -> Result<(), String> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        put_bytes(&mut body, data.as_bytes());
        put_acl(&mut body, acl);
        body.put_i32(0); // It stays.
        self.ask(1, &body).await.map(drop)
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Result<(), String> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        body.put_i32(-1);
        self.ask(2, &body).await.map(drop)
    }

    /// What this server has there, which need not be the newest.
    pub(crate) async fn get(&mut self, path: &str) -> Result<String, String> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        body.put_u8(0); // Nobody watches.
        let answer = self.ask(4, &body).await?;
        let mut rest = &*answer;
        let length = usize::try_from(rest.get_i32()).unwrap_or(0);
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    pub(crate) async fn set(&mut self, path: &str, data: &str) -> Result<(), String> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        put_bytes(&mut body, data.as_bytes());
        body.put_i32(-1);
        self.ask(5, &body).await.map(drop)
    }

    /// From now on only this one may do anything with a node.
    pub(crate) async fn set_acl(&mut self, path: &str, acl: Acl<'_>) -> Result<(), String> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        put_acl(&mut body, acl);
        body.put_i32(-1);
        self.ask(7, &body).await.map(drop)
    }

    /// Waits until this server has all that was written anywhere before.
    pub(crate) async fn sync(&mut self) -> Result<(), String> {
        let mut body = Vec::new();
        put_bytes(&mut body, b"/");
        self.ask(9, &body).await.map(drop)
    }

    /// Ends the session, with all that hangs on it.
    pub(crate) async fn close(mut self) -> Result<(), String> {
        self.ask(-11, &[]).await.map(drop)
    }

    async fn ask(&mut self, operation: i32, body: &[u8]) -> Result<Vec<u8>, String> {
        self.next += 1;
        self.request(self.next, operation, body).await
    }

    async fn request(&mut self, number: i32, operation: i32, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut request = Vec::new();
        request.put_i32(number);
        request.put_i32(operation);
        request.put_slice(body);
        let answer = self.exchange(&request).await?;
        let mut rest = &*answer;
        if rest.len() < 16 {
            return Err("the answer is too short".to_owned());
        }
        // Its own number, and that of the newest change.
        rest.advance(12);
        match rest.get_i32() {
            0 => Ok(rest.to_vec()),
            code => Err(refusal(code)),
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, String> {
        let exchanged = async {
            let mut framed = Vec::new();
            put_bytes(&mut framed, request);
            self.stream.write_all(&framed).await?;
            let length = self.stream.read_i32().await?;
            let mut answer = vec![0; usize::try_from(length).unwrap_or(0)];
            self.stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let exchanged = timeout(REQUEST, exchanged).await.map_err(|late| late.to_string())?;
        exchanged.map_err(|error| error.to_string())
    }
}

/// What a server answers to one of its four letter words.
pub(crate) async fn word(server: SocketAddr, word: &str) -> Result<String, String> {
    let asked = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(REQUEST, asked).await.map_err(|late| late.to_string())?;
    answer.map_err(|error| error.to_string())
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_i32(i32::try_from(bytes.len()).expect("it is short"));
    to.put_slice(bytes);
}

fn put_acl(to: &mut Vec<u8>, Acl(scheme, id): Acl<'_>) {
    to.put_i32(1);
    to.put_i32(31); // Everything.
    put_bytes(to, scheme.as_bytes());
    put_bytes(to, id.as_bytes());
}
