//! A Consul of one or more servers, the real `consul` as its client, and plain requests for what that cannot ask.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::certificates::Certificates;
use super::{Cluster, Member, Members, PATIENCE, Release, Waiting, in_path, shell, unpacked, url_rest};

/// What URLs carry where only those may do anything who have a token: for all keys, sessions, nodes and services.
pub(crate) const TOKEN: &str = "7d2c3f4e-6a1b-4c5d-8e9f-0a1b2c3d4e5f";
/// Who may do everything. `consul` is him where there are tokens.
const MASTER: &str = "0f1e2d3c-4b5a-4968-8776-655443322110";
/// What members encrypt their gossip with, where there is encryption: 32 bytes.
const GOSSIP_KEY: &str = "cXVvcmF0ZSBxdW9yYXRlIHF1b3JhdGUgcXVvcmF0ZSE=";
/// What [`TOKEN`] may do.
const RULES: &str = r#"
    key_prefix "" { policy = "write" }
    session_prefix "" { policy = "write" }
    node_prefix "" { policy = "write" }
    service_prefix "" { policy = "write" }
    agent_prefix "" { policy = "read" }
"#;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// What `scripts/servers install consul` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1_8,
}

pub(crate) type Options = super::Options<Version>;

impl Release for Version {
    type Cluster = Consul;

    const SERVER: &'static str = "consul";
    const USUAL: &'static [Self] = &[Self::V1_8];
    const ALL: &'static [Self] = &[Self::V1_8];

    fn name(self) -> &'static str {
        match self {
            Self::V1_8 => "1.8",
        }
    }

    fn prepare(options: Options) -> Consul {
        let program = options.version.program();
        let members = Members::new(Self::SERVER, options.members);
        let certificates = options.tls.then(|| Certificates::new(&members.site().join("certificates")));
        Consul { options, program, certificates, members }
    }
}

impl Version {
    fn program(self) -> PathBuf {
        let ours = unpacked(&format!("consul-{}", self.name())).join("consul");
        if ours.is_file() {
            return ours;
        }
        // One of PATH will do if it is the version that the test asks for.
        let fits = |consul: &PathBuf| {
            let printed = std::process::Command::new(consul).arg("version").output().expect("it runs").stdout;
            String::from_utf8_lossy(&printed).starts_with(&format!("Consul v{}.", self.name()))
        };
        in_path("consul").into_iter().find(fits).unwrap_or_else(|| {
            panic!(
                "consul {} is neither at {} nor in PATH: scripts/servers install consul",
                self.name(),
                ours.display()
            )
        })
    }
}

/// A running cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Consul {
    options: Options,
    program: PathBuf,
    certificates: Option<Certificates>,
    members: Members,
}

impl Consul {
    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Runs the real `consul`, and returns what it printed or why it failed.
    pub(crate) async fn consul(&self, member: usize, arguments: &[&str]) -> Result<String, String> {
        self.consul_via(self.addresses()[member], arguments).await
    }

    /// The same through this address.
    pub(crate) async fn consul_via(&self, address: SocketAddr, arguments: &[&str]) -> Result<String, String> {
        let (verbs, rest) = arguments.split_at(verbs(arguments));
        let mut command = self.bare_consul();
        command.args(verbs).args(self.consul_options(address)).args(rest);
        let output = timeout(REQUEST, command.output()).await.map_err(|late| late.to_string())?;
        let output = output.expect("consul runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    /// What tells `consul`, behind its verbs, where the server is and who asks.
    pub(crate) fn consul_options(&self, address: SocketAddr) -> Vec<String> {
        let scheme = if self.options.tls { "https" } else { "http" };
        let mut options = vec![format!("-http-addr={scheme}://{address}")];
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            options.extend([
                format!("-ca-file={}", authority.display()),
                format!("-client-cert={}", client.certificate.display()),
                format!("-client-key={}", client.key.display()),
            ]);
        }
        if self.options.auth {
            options.push(format!("-token={MASTER}"));
        }
        options
    }

    /// A `consul` that knows nothing of this cluster.
    pub(crate) fn bare_consul(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        // It runs what it is told to under a lock through a shell of PATH.
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Asks a member as who may do everything, past its encryption; returns the status and what it answers.
    pub(crate) async fn ask(
        &self,
        member: &Member,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String), String> {
        let asked = request(self.socket(member), method, path, body);
        let answer = timeout(REQUEST, asked).await.map_err(|late| late.to_string())?;
        answer.map_err(|error| format!("{method} {path}: {error}"))
    }

    /// The answer of the first member, which has to be a good one.
    pub(crate) async fn api(&self, method: &str, path: &str, body: &str) -> Value {
        let first = self.members.iter().next().expect("there is one");
        match self.ask(first, method, path, body).await {
            Ok((200, answer)) => serde_json::from_str(&answer).expect("it is JSON"),
            other => panic!("{method} {path}: {other:?}"),
        }
    }

    /// Where the data of each member is.
    pub(crate) fn data(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| self.members.directory(member)).collect()
    }

    /// Where a member listens for us alone, in the directory that nobody else may read.
    pub(crate) fn socket(&self, member: &Member) -> PathBuf {
        self.members.site().join(format!("{}.sock", member.name))
    }

    async fn made(&self, path: &str, what: &str) -> Result<(), String> {
        let first = self.members.iter().next().expect("there is one");
        match self.ask(first, "PUT", path, what).await? {
            (200, _) => Ok(()),
            (status, answer) => Err(format!("{status} {answer}")),
        }
    }

    fn configuration(&self, member: &Member) -> Value {
        let others = self.members.iter().filter(|other| other.number != member.number);
        let others: Vec<_> = others.map(|other| other.peers[1].to_string()).collect();
        let clients = member.clients.port();
        // Unless it is for clients, plain HTTP is for us alone.
        let (http, https) = if self.options.tls { (1, clients.into()) } else { (i32::from(clients), -1) };
        let socket = format!("unix://{}", self.socket(member).display());
        let plain = if self.options.tls { socket } else { format!("127.0.0.1 {socket}") };
        let mut configuration = json!({
            "server": true,
            "bootstrap_expect": self.options.members,
            "node_name": member.name,
            "datacenter": "dc1",
            "data_dir": self.members.directory(member),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "addresses": { "http": plain },
            "ports": {
                "http": http, "https": https, "grpc": -1, "dns": -1, "serf_wan": -1,
                "server": member.peers[0].port(), "serf_lan": member.peers[1].port(),
            },
            "retry_join": others,
            "retry_interval": "200ms",
            "performance": { "raft_multiplier": 1 },
            // Nothing is ever cut off their log.
            "raft_snapshot_threshold": 1_000_000_000,
            "raft_trailing_logs": 1_000_000_000,
            "disable_update_check": true,
            "disable_host_node_id": true,
            "leave_on_terminate": false,
            "log_level": "WARN",
        });
        let settings = configuration.as_object_mut().expect("it is one");
        if let Some(Certificates { authority, server, .. }) = &self.certificates {
            for (name, value) in [
                ("ca_file", json!(authority)),
                ("cert_file", json!(server.certificate)),
                ("key_file", json!(server.key)),
                ("verify_incoming", json!(true)),
                ("verify_outgoing", json!(true)),
                ("verify_server_hostname", json!(true)),
                ("encrypt", json!(GOSSIP_KEY)),
            ] {
                settings.insert(name.to_owned(), value);
            }
        }
        if self.options.auth {
            let acl = json!({
                "enabled": true,
                "default_policy": "deny",
                "down_policy": "deny",
                "tokens": { "master": MASTER, "agent": MASTER },
            });
            settings.insert("acl".to_owned(), acl);
        }
        configuration
    }

    /// Whether a session can be made through this member, and something written in it.
    async fn takes_sessions(&self, member: &Member) -> Result<(), String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let answered = |answer: (u16, String)| match answer {
            (200, text) => Ok(text),
            (status, text) => Err(format!("{}: {status} {text}", member.name)),
        };
        let session = json!({ "TTL": "10s", "Behavior": "delete", "LockDelay": "0s" }).to_string();
        let made = answered(self.ask(member, "PUT", "/v1/session/create", &session).await?)?;
        let made: Value = serde_json::from_str(&made).map_err(|error| error.to_string())?;
        let id = made["ID"].as_str().unwrap_or_default();
        let key = format!("/v1/kv/ready-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let written = answered(self.ask(member, "PUT", &format!("{key}?acquire={id}"), "").await?)?;
        answered(self.ask(member, "PUT", &format!("/v1/session/destroy/{id}"), "").await?)?;
        if written.trim() == "true" { Ok(()) } else { Err(format!("{key}: {written}")) }
    }
}

/// How many of the words say what to do: `kv get`, `acl token create`, but `lock` alone.
fn verbs(words: &[&str]) -> usize {
    match words {
        ["acl", "policy" | "token", ..] | ["operator", "raft", ..] => 3,
        ["kv" | "acl" | "catalog", ..] => 2,
        _ => 1,
    }
}

/// One request over HTTP/1.0, the end of whose answer is the end of the connection.
async fn request(socket: PathBuf, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).await?;
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nX-Consul-Token: {MASTER}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
}

#[async_trait]
impl Cluster for Consul {
    fn members(&self) -> &Members {
        &self.members
    }

    fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String {
        let hosts = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let mut url = format!("consul://{hosts}{}", url_rest(namespace, self.certificates()));
        if self.options.auth {
            url += if url.contains('?') { "&token=" } else { "?token=" };
            url += TOKEN;
        }
        url
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        let file = self.members.site().join(format!("{}.json", member.name));
        std::fs::write(&file, self.configuration(member).to_string()).expect("the file is written");
        let mut arguments = vec!["agent".to_owned(), format!("-config-file={}", file.display())];
        arguments.extend(self.options.flags.iter().cloned());
        (self.program.clone(), arguments)
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        for member in self.members.iter().filter(|member| members.contains(&member.clients)) {
            self.takes_sessions(member).await?;
        }
        Ok(())
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        let info = self.consul_via(member, &["info"]).await?;
        let leads = info.lines().any(|line| line.trim() == "leader = true");
        leads.then_some(()).ok_or_else(|| format!("{member} does not say that it leads"))
    }

    async fn furnish(&mut self) {
        if self.options.auth {
            let policy = json!({ "Name": "app", "Rules": RULES }).to_string();
            // It says for a moment that it is in legacy mode, until members have told each other that none is that old.
            let mut waiting = Waiting::new("a policy is made", PATIENCE);
            while waiting.ask(self.made("/v1/acl/policy", &policy)).await.is_none() {
                waiting.rest().await;
            }
            let token = json!({ "SecretID": TOKEN, "Policies": [{ "Name": "app" }] }).to_string();
            self.api("PUT", "/v1/acl/token", &token).await;
        }
    }

    fn client_command(&self) -> String {
        let mut command = self.bare_consul();
        command.arg("kv").arg("get").args(self.consul_options(self.addresses()[0])).arg("KEY");
        shell(command.as_std())
    }
}
