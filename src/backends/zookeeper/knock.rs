//! A look at the servers beside the client: why nobody lets us in, which that does not tell, and what runs there.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ensemble::Ensemble;
use super::options::Server;
use crate::kv::{Error, ErrorKind, Outcome};

/// How long a server may take for each step.
const STEP: Duration = Duration::from_secs(1);

/// How long it may take to find out what runs there.
const QUESTION: Duration = Duration::from_millis(500);

/// How long a server that has something against us takes to say so.
const OBJECTION: Duration = Duration::from_millis(300);

/// The same error, naming each server and what is wrong with it as far as that can be seen; and whether that is such that
/// it may soon be otherwise.
pub(super) async fn explain(ensemble: &Ensemble, error: Error) -> (Error, bool) {
    if error.kind() != ErrorKind::Unavailable {
        return (error, false);
    }
    let looked = aside(ensemble, |servers, tls| servers.iter().map(|server| knock(server, tls)).collect());
    let Some(looks): Option<Vec<Result<String, String>>> = looked.await else { return (error, false) };
    let hope = looks.iter().any(Result::is_ok);
    let troubles: Vec<_> = looks.into_iter().map(|look| look.unwrap_or_else(|trouble| trouble)).collect();
    let told = Error::new(ErrorKind::Unavailable, Outcome::NotApplied, troubles.join("; ")).because(error);
    (told, hope)
}

/// What the first that tells says is running there; only few words are allowed by default, and this is one of them.
pub(super) async fn version(ensemble: &Ensemble) -> Option<Arc<str>> {
    let asked = aside(ensemble, |servers, tls| servers.iter().find_map(|server| ask(server, tls).ok()?));
    timeout(QUESTION * 2, asked).await.ok()??
}

/// Does what blocks where that is allowed.
async fn aside<T: Send + 'static>(
    ensemble: &Ensemble,
    work: impl FnOnce(&[Server], Option<&Arc<ClientConfig>>) -> T + Send + 'static,
) -> Option<T> {
    let (servers, tls) = (ensemble.settled.servers.clone(), ensemble.settled.tls_config());
    let (tell, told) = oneshot::channel();
    let look = move || drop(tell.send(work(&servers, tls.as_ref())));
    // Not one of the runtime's, which would wait for it at its end.
    thread::Builder::new().name("quorate-zookeeper".into()).spawn(look).ok()?;
    told.await.ok()
}

fn ask(server: &Server, tls: Option<&Arc<ClientConfig>>) -> io::Result<Option<Arc<str>>> {
    let mut socket = connect(server)?;
    let answer = match tls {
        None => {
            socket.set_read_timeout(Some(QUESTION))?;
            status(&mut socket)?
        }
        Some(config) => {
            let mut connection = greet(server, &mut socket, config)?;
            socket.set_read_timeout(Some(QUESTION))?;
            status(&mut Stream::new(&mut connection, &mut socket))?
        }
    };
    let told = answer.lines().find_map(|line| line.strip_prefix("Zookeeper version: "));
    let number = told.and_then(|told| told.split(['-', ',']).next());
    Ok(number.map(|number| format!("ZooKeeper {number}").into()))
}

fn status(stream: &mut (impl Read + Write)) -> io::Result<String> {
    stream.write_all(b"srvr")?;
    stream.flush()?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    // It ends with the connection, however that ends.
    while let Ok(length @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..length]);
        if answer.len() > part.len() {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What is wrong with a server, as far as it shows; `Ok` if it is nothing that we can see.
fn knock(server: &Server, tls: Option<&Arc<ClientConfig>>) -> Result<String, String> {
    let failed = |trouble: String| format!("{server}: {trouble}");
    let socket = connect(server).map_err(|error| failed(error.to_string()))?;
    let Some(config) = tls else {
        return Ok(format!("{server} grants no session; perhaps it wants TLS, or has no majority"));
    };
    match shake_hands(server, socket, config) {
        Ok(()) => Ok(format!("{server} grants no session; perhaps it has no majority")),
        Err(error) => Err(failed(format!("{error}{}", hint(&error)))),
    }
}

/// What may be behind a handshake that failed.
fn hint(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(_)) => {
            "; perhaps it wants another client certificate, or one at all"
        }
        Some(_) => "",
        None => "; perhaps it does not speak TLS, or wants a client certificate",
    }
}

fn connect(server: &Server) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (server.host.as_str(), server.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(
    server: &Server,
    socket: &mut TcpStream,
    config: &Arc<ClientConfig>,
) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(STEP))?;
    socket.set_write_timeout(Some(STEP))?;
    while connection.is_handshaking() {
        connection.complete_io(socket)?;
    }
    Ok(connection)
}

fn shake_hands(server: &Server, mut socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<()> {
    let mut connection = greet(server, &mut socket, config)?;
    // That a certificate is missing may show only now.
    socket.set_read_timeout(Some(OBJECTION))?;
    match Stream::new(&mut connection, &mut socket).read(&mut [0]) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
