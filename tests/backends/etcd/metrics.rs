//! What the server itself counts.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::servers::Cluster as _;
use crate::servers::etcd::Etcd;

/// One number.
pub(super) async fn metric(etcd: &Etcd, name: &str) -> f64 {
    let page = page(etcd).await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)).expect("it is counted");
    line.trim().parse().expect("a number")
}

/// How many requests of each kind the server has answered, streams left out.
pub(super) async fn requests(etcd: &Etcd) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in page(etcd).await.lines().filter(|line| line.starts_with("grpc_server_handled_total{")) {
        let (labels, count) = line.rsplit_once(' ').expect("a count");
        let label = |name: &str| {
            labels.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next())
        };
        if label("grpc_type") == Some("unary") {
            let count: u64 = count.parse().expect("a number");
            *counts.entry(label("grpc_method").expect("a method").to_owned()).or_default() += count;
        }
    }
    counts
}

/// How many more there are now, of kinds that there are more of.
pub(super) fn since(before: &BTreeMap<String, u64>, now: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(kind, count): (String, u64)| {
        let more = count - before.get(&kind).copied().unwrap_or(0);
        (more > 0).then_some((kind, more))
    };
    now.into_iter().filter_map(more).collect()
}

async fn page(etcd: &Etcd) -> String {
    let address = etcd.addresses()[0];
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut page = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut page));
    read.await.expect("it answers").expect("it is text");
    page
}
