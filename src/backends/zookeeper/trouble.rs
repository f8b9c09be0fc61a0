//! Why nobody lets us in: the client only says that it is so, so each server is looked at once more.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

use super::ensemble::Ensemble;
use super::options::Server;
use crate::kv::{Error, ErrorKind, Outcome};

/// How long a server may take for each step.
const STEP: Duration = Duration::from_secs(1);

/// How long a server that has something against us takes to say so.
const OBJECTION: Duration = Duration::from_millis(300);

/// The same error, naming each server and what is wrong with it as far as that can be seen; and whether that is such that
/// it may soon be otherwise.
pub(super) async fn explain(ensemble: &Ensemble, error: Error) -> (Error, bool) {
    if error.kind() != ErrorKind::Unavailable {
        return (error, false);
    }
    let (servers, tls) = (ensemble.settled.servers.clone(), ensemble.settled.tls_config());
    let looking = ensemble.host.run(async move {
        let look = move || servers.iter().map(|server| knock(server, tls.as_ref())).collect::<Vec<_>>();
        tokio::task::spawn_blocking(look).await
    });
    let Some(Ok(looks)) = looking.done().await else { return (error, false) };
    let hope = looks.iter().any(Result::is_ok);
    let troubles: Vec<_> = looks.into_iter().map(|look| look.unwrap_or_else(|trouble| trouble)).collect();
    let told = Error::new(ErrorKind::Unavailable, Outcome::NotApplied, troubles.join("; ")).because(error);
    (told, hope)
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

fn shake_hands(server: &Server, mut socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<()> {
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(STEP))?;
    socket.set_write_timeout(Some(STEP))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    // That a certificate is missing may show only now.
    socket.set_read_timeout(Some(OBJECTION))?;
    match Stream::new(&mut connection, &mut socket).read(&mut [0]) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
