//! An etcd of one or more members, and the real `etcdctl`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;

use super::certificates::Certificates;
use super::{PATIENCE, Server, Site, free_port, in_path, unpacked, until};

/// Who may do everything to the keys and nothing to the users; the URL names him when there is authentication.
pub(crate) const USER: &str = "app";
/// The password of [`USER`], with what URLs and `etcdctl` give a meaning to.
pub(crate) const PASSWORD: &str = "p@ss:w/rd%41 ?";
/// Who may do everything. `etcdctl` is him when there is authentication.
const ROOT: &str = "root:rootpw";

/// What `scripts/servers install etcd` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3_4,
    V3_5,
    /// The newest that Debian has, with `--full`.
    Sid,
}

impl Version {
    pub(crate) const USUAL: [Self; 2] = [Self::V3_4, Self::V3_5];
    pub(crate) const ALL: [Self; 3] = [Self::V3_4, Self::V3_5, Self::Sid];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_5 => "3.5",
            Self::Sid => "sid",
        }
    }

    /// The directory with `etcd` and `etcdctl`.
    fn programs(self) -> PathBuf {
        let ours = unpacked(&format!("etcd-{}", self.name()));
        if ours.join("etcd").is_file() {
            return ours;
        }
        // One of PATH will do if it is the version that the test asks for.
        let fits = |etcd: &PathBuf| {
            let printed = Command::new(etcd).arg("--version").output().expect("it runs").stdout;
            let wanted = format!("etcd Version: {}.", self.name());
            String::from_utf8_lossy(&printed).starts_with(&wanted) && etcd.with_file_name("etcdctl").is_file()
        };
        match in_path("etcd").into_iter().find(fits) {
            Some(etcd) => etcd.with_file_name(""),
            None => panic!(
                "etcd {} is neither in {} nor in PATH: scripts/servers install etcd{}",
                self.name(),
                ours.display(),
                if self == Self::Sid { " --full" } else { "" }
            ),
        }
    }
}

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    version: Version,
    members: u16,
    tls: bool,
    auth: bool,
    flags: Vec<String>,
}

impl Options {
    /// One member that anybody may use, with neither encryption nor users.
    pub(crate) fn new(version: Version) -> Self {
        Self { version, members: 1, tls: false, auth: false, flags: Vec::new() }
    }

    pub(crate) fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    pub(crate) fn members(self, members: u16) -> Self {
        Self { members, ..self }
    }

    /// Encryption with certificates asked of clients and members.
    pub(crate) fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Users and passwords: `root`, and [`USER`].
    pub(crate) fn auth(self) -> Self {
        Self { auth: true, ..self }
    }

    /// One more flag of `etcd` itself, for example `--auth-token-ttl=2`; it has the last word.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts it and waits until every member serves.
    pub(crate) async fn start(self) -> Etcd {
        let programs = self.version.programs();
        let site = Site::new("etcd");
        let certificates = self.tls.then(|| Certificates::new(&site.directory().join("certificates")));
        let members = (1..=self.members).map(Member::new).collect();
        let mut etcd =
            Etcd { options: self, programs, certificates, knows_users: false, lives: 0, members, site };
        etcd.begin().await;
        etcd
    }
}

#[derive(Debug)]
struct Member {
    name: String,
    clients: SocketAddr,
    peers: SocketAddr,
    server: Option<Server>,
    paused: bool,
}

impl Member {
    fn new(number: u16) -> Self {
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Self { name: format!("m{number}"), clients: address(), peers: address(), server: None, paused: false }
    }

    fn serves(&self) -> bool {
        self.server.is_some() && !self.paused
    }
}

/// A running cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Etcd {
    options: Options,
    programs: PathBuf,
    certificates: Option<Certificates>,
    knows_users: bool,
    /// How often it began with no data.
    lives: u32,
    members: Vec<Member>,
    site: Site,
}

impl Etcd {
    /// Where clients find each member.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.clients).collect()
    }

    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// What to connect to, with everything that a client needs.
    pub(crate) fn url(&self, namespace: &str) -> String {
        self.url_via(&self.addresses(), namespace)
    }

    /// The same through other addresses, such as those of proxies.
    pub(crate) fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String {
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');
        let escape = |text: &str| utf8_percent_encode(text, KEPT).to_string();
        let mut url = String::from("etcd://");
        if self.options.auth {
            write!(url, "{USER}:{}@", utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC))
                .expect("a string grows");
        }
        url += &addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        if !namespace.is_empty() {
            url = url + "/" + &escape(namespace);
        }
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            let files = [("?ca", authority), ("&cert", &client.certificate), ("&key", &client.key)];
            for (name, file) in files {
                url = url + name + "=" + &escape(&file.to_string_lossy());
            }
        }
        url
    }

    /// Runs the real `etcdctl` against all members, and returns what it printed or why it failed.
    pub(crate) async fn etcdctl(&self, arguments: &[&str]) -> Result<String, String> {
        self.etcdctl_via(&self.addresses(), arguments).await
    }

    /// The same through these addresses only.
    pub(crate) async fn etcdctl_via(
        &self,
        addresses: &[SocketAddr],
        arguments: &[&str],
    ) -> Result<String, String> {
        let output = self.etcdctl_command(addresses).args(arguments).output().await.expect("etcdctl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// An `etcdctl` that lacks only its arguments, for those that run on, such as `lock` and `watch`.
    pub(crate) fn etcdctl_command(&self, addresses: &[SocketAddr]) -> tokio::process::Command {
        let scheme = if self.options.tls { "https" } else { "http" };
        let endpoints: Vec<_> = addresses.iter().map(|address| format!("{scheme}://{address}")).collect();
        let mut command = self.bare_etcdctl();
        command.arg("--endpoints").arg(endpoints.join(","));
        // Five seconds would be its own patience.
        command.args(["--dial-timeout=2s", "--command-timeout=2s"]);
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            command.arg("--cacert").arg(authority).arg("--cert").arg(&client.certificate);
            command.arg("--key").arg(&client.key);
        }
        if self.knows_users {
            command.args(["--user", ROOT]);
        }
        command
    }

    /// An `etcdctl` that knows nothing of this cluster.
    pub(crate) fn bare_etcdctl(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.programs.join("etcdctl"));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What a running member printed.
    pub(crate) fn log(&self, member: usize) -> String {
        self.members[member].server.as_ref().expect("it runs").log()
    }

    /// The member that leads, of those that run; waits until one does.
    pub(crate) async fn leader(&self) -> usize {
        until("etcd has a leader", PATIENCE, async || {
            for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.serves()) {
                let Ok(status) =
                    self.etcdctl_via(&[member.clients], &["endpoint", "status", "-w=json"]).await
                else {
                    continue;
                };
                let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
                let status = &status[0]["Status"];
                if status["leader"].is_u64() && status["leader"] == status["header"]["member_id"] {
                    return Ok(index);
                }
            }
            Err(String::from("no member says that it leads"))
        })
        .await
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.server = None;
        member.paused = false;
    }

    /// Kills the member if it runs, starts it with its data, and waits until it serves. The others must be enough
    /// for that; see [`Etcd::restart_all`] where they are not.
    pub(crate) async fn restart(&mut self, member: usize) {
        self.kill(member);
        self.spawn(member);
        self.ready().await;
    }

    /// Kills every member, starts them with their data, and waits until all serve.
    pub(crate) async fn restart_all(&mut self) {
        self.kill_all();
        self.spawn_all();
        self.ready().await;
    }

    /// Kills every member, and starts the cluster anew with no data, at the same addresses.
    pub(crate) async fn wipe(&mut self) {
        self.kill_all();
        for member in &self.members {
            std::fs::remove_dir_all(self.site.directory().join(&member.name)).expect("it had data");
        }
        self.knows_users = false;
        self.begin().await;
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self, member: usize) {
        self.signal(member, Signal::STOP);
        self.members[member].paused = true;
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, member: usize) {
        self.signal(member, Signal::CONT);
        self.members[member].paused = false;
    }

    fn signal(&self, member: usize, signal: Signal) {
        self.members[member].server.as_ref().expect("it runs").signal(signal);
    }

    async fn begin(&mut self) {
        self.lives += 1;
        self.spawn_all();
        self.ready().await;
        if self.options.auth {
            self.make_users().await;
            self.knows_users = true;
            self.ready().await;
        }
    }

    async fn make_users(&self) {
        let user = format!("{USER}:{PASSWORD}");
        let commands: [&[&str]; 7] = [
            &["role", "add", USER],
            // Every key.
            &["role", "grant-permission", USER, "readwrite", "--prefix=true", ""],
            &["user", "add", &user],
            &["user", "grant-role", USER, USER],
            &["user", "add", ROOT],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ];
        for command in commands {
            if let Err(reason) = self.etcdctl(command).await {
                panic!("etcdctl {command:?}: {reason}");
            }
        }
    }

    fn kill_all(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill(member));
    }

    fn spawn_all(&mut self) {
        (0..self.members.len()).for_each(|member| self.spawn(member));
    }

    fn spawn(&mut self, member: usize) {
        let arguments = self.arguments(&self.members[member]);
        let member = &mut self.members[member];
        member.server = Some(self.site.start(&member.name, &self.programs.join("etcd"), &arguments));
    }

    fn arguments(&self, member: &Member) -> Vec<String> {
        let scheme = if self.options.tls { "https" } else { "http" };
        let peers = |member: &Member| format!("{}={scheme}://{}", member.name, member.peers);
        let cluster = self.members.iter().map(peers).collect::<Vec<_>>().join(",");
        let Member { name, clients, peers, .. } = member;
        let mut arguments = vec![
            format!("--name={name}"),
            format!("--data-dir={}", self.site.directory().join(name).display()),
            format!("--listen-client-urls={scheme}://{clients}"),
            format!("--advertise-client-urls={scheme}://{clients}"),
            format!("--listen-peer-urls={scheme}://{peers}"),
            format!("--initial-advertise-peer-urls={scheme}://{peers}"),
            format!("--initial-cluster={cluster}"),
            "--initial-cluster-state=new".to_owned(),
            // Another each time: members of an earlier cluster at these addresses must not take part.
            format!("--initial-cluster-token={}-{}", self.site.directory().display(), self.lives),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
            "--bcrypt-cost=4".to_owned(),
        ];
        if let Some(Certificates { authority, server, .. }) = &self.certificates {
            for prefix in ["", "peer-"] {
                arguments.extend([
                    format!("--{prefix}trusted-ca-file={}", authority.display()),
                    format!("--{prefix}cert-file={}", server.certificate.display()),
                    format!("--{prefix}key-file={}", server.key.display()),
                    format!("--{prefix}client-cert-auth"),
                ]);
            }
        }
        arguments.extend(self.options.flags.iter().cloned());
        arguments
    }

    /// Waits until every member that should serve answers a read that takes a majority.
    async fn ready(&mut self) {
        let addresses: Vec<_> =
            self.members.iter().filter(|member| member.serves()).map(|member| member.clients).collect();
        until("etcd serves", PATIENCE, async || {
            for member in &mut self.members {
                if let Some(obituary) = member.server.as_mut().and_then(Server::obituary) {
                    panic!("{}: {obituary}", member.name);
                }
            }
            self.etcdctl_via(&addresses, &["endpoint", "health"]).await
        })
        .await;
    }
}
