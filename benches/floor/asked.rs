//! What servers say of themselves.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a server answers to these bytes until it closes the connection.
pub(super) async fn answer(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it is text");
    answer
}

/// The sum of the counters in Prometheus' format that are called so.
#[cfg(any(feature = "consul", feature = "etcd"))]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is counted is whole, and no less than nothing"
)]
pub(super) async fn counted(server: SocketAddr, path: &str, is_counted: impl Fn(&str) -> bool) -> u64 {
    let page = answer(server, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")).await;
    let count = |line: &str| {
        let (name, count) = line.rsplit_once(' ')?;
        // A million and more is written as `1.000013e+06`.
        is_counted(name).then(|| count.parse::<f64>().expect("a number"))
    };
    page.lines().filter_map(count).sum::<f64>() as u64
}
