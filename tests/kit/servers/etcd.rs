//! An etcd of one or more members, and the real `etcdctl`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::AsyncWriteExt as _;

use super::certificates::Certificates;
use super::{Cluster, Member, Members, Release, in_path, shell, unpacked, url_rest};

/// Who may do everything to the keys and nothing to the users; the URL names him when there is authentication.
pub(crate) const USER: &str = "app";
/// The password of [`USER`], with what URLs and `etcdctl` give a meaning to.
pub(crate) const PASSWORD: &str = "p@ss:w/rd%41 ?";
/// Who may do everything. `etcdctl` is him when there is authentication.
const ROOT: &str = "root:rootpw";
/// How often root asks again when it is told that it may not.
const TRIES: u32 = 5;

/// What `scripts/servers install etcd` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3_4,
    V3_5,
    /// The newest that Debian has, with `--full`.
    Sid,
}

impl Release for Version {
    type Cluster = Etcd;

    const SERVER: &'static str = "etcd";
    const USUAL: &'static [Self] = &[Self::V3_4, Self::V3_5];
    const ALL: &'static [Self] = &[Self::V3_4, Self::V3_5, Self::Sid];

    fn name(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_5 => "3.5",
            Self::Sid => "sid",
        }
    }

    fn prepare(options: Options) -> Etcd {
        let programs = options.version.programs();
        let members = Members::new(Self::SERVER, options.members);
        let certificates = options.tls.then(|| Certificates::new(&members.site().join("certificates")));
        Etcd { options, programs, certificates, members }
    }
}

impl Version {
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

pub(crate) type Options = super::Options<Version>;

/// A running cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Etcd {
    options: Options,
    programs: PathBuf,
    certificates: Option<Certificates>,
    members: Members,
}

impl Etcd {
    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
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
        self.etcdctl_told(addresses, arguments, "").await
    }

    /// The same with something to read.
    pub(crate) async fn etcdctl_told(
        &self,
        addresses: &[SocketAddr],
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let mut tries = 0;
        loop {
            let mut command = self.etcdctl_command(addresses);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("etcdctl runs");
            let mut stdin = child.stdin.take().expect("it is piped");
            // Who does not read it may have ended.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            let output = child.wait_with_output().await.expect("it ends");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            let refused = |said: &String| self.options.auth && said.contains("etcdserver: permission denied");
            match (output.status.success(), text(&output.stderr)) {
                (true, _) => return Ok(text(&output.stdout)),
                // A busy etcd 3.5 now and then tells root that it may not, about one request; why is not known.
                (false, said) if refused(&said) && tries < TRIES => tries += 1,
                (false, said) => return Err(said),
            }
        }
    }

    /// An `etcdctl` that lacks only its arguments, for those that run on, such as `lock` and `watch`.
    pub(crate) fn etcdctl_command(&self, addresses: &[SocketAddr]) -> tokio::process::Command {
        let scheme = if self.options.tls { "https" } else { "http" };
        let endpoints: Vec<_> = addresses.iter().map(|address| format!("{scheme}://{address}")).collect();
        let mut command = self.bare_etcdctl();
        command.arg("--endpoints").arg(endpoints.join(","));
        // As long for a connection as for an answer.
        command.args(["--dial-timeout=5s", "--command-timeout=5s"]);
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            command.arg("--cacert").arg(authority).arg("--cert").arg(&client.certificate);
            command.arg("--key").arg(&client.key);
        }
        if self.options.auth && self.members.are_furnished() {
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

    fn arguments(&self, member: &Member) -> Vec<String> {
        let scheme = if self.options.tls { "https" } else { "http" };
        let peers = |member: &Member| format!("{}={scheme}://{}", member.name, member.peers[0]);
        let cluster = self.members.iter().map(peers).collect::<Vec<_>>().join(",");
        let Member { name, clients, peers: [peers, _], .. } = member;
        let mut arguments = vec![
            format!("--name={name}"),
            format!("--data-dir={}", self.members.directory(member).display()),
            format!("--listen-client-urls={scheme}://{clients}"),
            format!("--advertise-client-urls={scheme}://{clients}"),
            format!("--listen-peer-urls={scheme}://{peers}"),
            format!("--initial-advertise-peer-urls={scheme}://{peers}"),
            format!("--initial-cluster={cluster}"),
            "--initial-cluster-state=new".to_owned(),
            // Another each time: members of an earlier cluster at these addresses must not take part.
            format!("--initial-cluster-token={}-{}", self.members.site().display(), self.members.lives()),
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
}

#[async_trait]
impl Cluster for Etcd {
    fn members(&self) -> &Members {
        &self.members
    }

    fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String {
        let user = if self.options.auth {
            format!("{USER}:{}@", utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC))
        } else {
            String::new()
        };
        let hosts = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        format!("etcd://{user}{hosts}{}", url_rest(namespace, self.certificates()))
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        (self.programs.join("etcd"), self.arguments(member))
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        self.etcdctl_via(members, &["endpoint", "health"]).await.map(drop)
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        let status = self.etcdctl_via(&[member], &["endpoint", "status", "-w=json"]).await?;
        let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
        let status = &status[0]["Status"];
        let leads = status["leader"].is_u64() && status["leader"] == status["header"]["member_id"];
        leads.then_some(()).ok_or_else(|| format!("{member} does not say that it leads"))
    }

    async fn furnish(&mut self) {
        if self.options.auth {
            self.make_users().await;
        }
    }

    fn client_command(&self) -> String {
        shell(self.etcdctl_command(&self.addresses()).as_std())
    }
}
