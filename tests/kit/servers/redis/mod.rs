//! A Redis or a Valkey, alone or as a cluster of three primaries and more; under sentinels; and their own client.

mod programs;
pub(crate) mod sentinels;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::certificates::Certificates;
use super::{Cluster, Member, Members, PATIENCE, Release, shell, until, url_rest};
use programs::Programs;

/// Who may do what the backend does, to its own keys; the URL names him when there is authentication.
pub(crate) const USER: &str = "app";
/// The password of [`USER`], with what URLs give a meaning to.
pub(crate) const PASSWORD: &str = "p@ss:w/rd%41?";
/// Who may do everything. `redis-cli` is him when there is authentication, and so are servers to each other.
const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "adminpw";

/// From how many members on a cluster has a replica of each primary.
const WITH_REPLICAS: u16 = 6;

/// What `scripts/servers install redis` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V7_0,
    /// With `--full`, as the next.
    V8_0,
    Valkey8_1,
}

impl Release for Version {
    type Cluster = Redis;

    const SERVER: &'static str = "redis";
    const USUAL: &'static [Self] = &[Self::V7_0];
    const ALL: &'static [Self] = &[Self::V7_0, Self::V8_0, Self::Valkey8_1];

    /// It is alone, and keeps all that it acknowledged.
    const TROUBLED: u16 = 1;

    fn name(self) -> &'static str {
        match self {
            Self::V7_0 => "7.0",
            Self::V8_0 => "8.0",
            Self::Valkey8_1 => "valkey-8.1",
        }
    }

    fn prepare(options: Options) -> Redis {
        let clustered = options.members > 1;
        Redis::prepare(options, clustered)
    }
}

impl Version {
    /// What it says that it is.
    pub(crate) fn number(self) -> &'static str {
        self.name().trim_start_matches("valkey-")
    }

    /// Where it is unpacked.
    fn directory(self) -> &'static str {
        match self {
            Self::V7_0 => "redis-7.0",
            Self::V8_0 => "redis-8.0",
            Self::Valkey8_1 => "valkey-8.1",
        }
    }
}

pub(crate) type Options = super::Options<Version>;

/// A running server, or a cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Redis {
    options: Options,
    clustered: bool,
    programs: Programs,
    certificates: Option<Certificates>,
    members: Members,
}

impl Redis {
    fn prepare(options: Options, clustered: bool) -> Self {
        let programs = Programs::of(options.version);
        let members = Members::new(Version::SERVER, options.members);
        let certificates = options.tls.then(|| Certificates::new(&members.site().join("certificates")));
        let prepared = Self { options, clustered, programs, certificates, members };
        // Once: a server that starts may be reading it while the next is started.
        prepared.write_users();
        prepared
    }

    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Where it logs every effect before it answers.
    pub(crate) fn log_directory(&self) -> PathBuf {
        let member = self.members.iter().next().expect("there is one");
        self.members.directory(member).join("appendonlydir")
    }

    /// Runs the real `redis-cli` and returns what it printed or why it failed.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Result<String, String> {
        self.cli_via(self.addresses()[0], arguments).await
    }

    /// The same, of one of several servers.
    pub(crate) async fn cli_via(&self, address: SocketAddr, arguments: &[&str]) -> Result<String, String> {
        let admin = self.options.auth.then_some((ADMIN, ADMIN_PASSWORD));
        self.cli_as(admin, address, arguments).await
    }

    /// The same, as a user of that name and password.
    pub(crate) async fn cli_as(
        &self,
        user: Option<(&str, &str)>,
        address: SocketAddr,
        arguments: &[&str],
    ) -> Result<String, String> {
        let mut command = self.cli_command(user, address);
        let output = command.args(arguments).output().await.expect("redis-cli runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        // Of an error that the server tells, `-e` makes a failure.
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{} {}", text(&output.stdout), text(&output.stderr)))
        }
    }

    /// A `redis-cli` that lacks only its arguments, for those that run on, such as `MONITOR`.
    pub(crate) fn cli_command(
        &self,
        user: Option<(&str, &str)>,
        address: SocketAddr,
    ) -> tokio::process::Command {
        let mut command = self.bare_cli(address);
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(authority);
            command.arg("--cert").arg(&client.certificate).arg("--key").arg(&client.key);
        }
        if let Some((name, password)) = user {
            command.args(["--user", name, "--pass", password, "--no-auth-warning"]);
        }
        command
    }

    /// One with neither certificates nor a user.
    pub(crate) fn bare_cli(&self, address: SocketAddr) -> tokio::process::Command {
        let words = self.programs.words("cli");
        let mut command = tokio::process::Command::new(&words[0]);
        command.env_clear().args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true).arg("-e");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command
    }

    /// The member that has this key of a cluster.
    pub(crate) async fn owner(&self, key: &str) -> usize {
        let slot = self.cli(&["CLUSTER", "KEYSLOT", key]).await.expect("it answers");
        for (index, address) in self.addresses().into_iter().enumerate() {
            let count = self.cli_via(address, &["CLUSTER", "COUNTKEYSINSLOT", &slot]).await;
            if self.leads(address).await.is_ok() && count.is_ok_and(|count| count != "0") {
                return index;
            }
        }
        panic!("nobody has {key}")
    }

    /// Those that copy what this one writes.
    pub(crate) async fn replicas_of(&self, member: usize) -> Vec<usize> {
        let addresses: Vec<_> = self.members.iter().map(|member| member.clients).collect();
        let role = self.cli_via(addresses[member], &["ROLE"]).await.expect("it answers");
        let ports: Vec<_> = role.lines().collect();
        let is_named = |address: &SocketAddr| ports.contains(&&*address.port().to_string());
        (0..addresses.len()).filter(|index| is_named(&addresses[*index])).collect()
    }

    /// How far a server has written, and how far each replica says that it has come.
    async fn copied(&self, server: SocketAddr) -> Result<(u64, Vec<u64>), String> {
        let info = self.cli_via(server, &["INFO", "replication"]).await?;
        let number = |text: &str| text.parse().map_err(|_| info.clone());
        let written = info.lines().find_map(|line| line.trim().strip_prefix("master_repl_offset:"));
        let copied = info.split(",offset=").skip(1).filter_map(|rest| rest.split(',').next());
        Ok((number(written.unwrap_or_default())?, copied.map(number).collect::<Result<_, _>>()?))
    }

    /// Waits until all replicas of a member have what was written there before; a server acknowledges that sooner.
    pub(crate) async fn all_copied(&self, member: usize) -> Vec<usize> {
        let address = self.members.iter().nth(member).expect("there are so many").clients;
        let replicas = self.replicas_of(member).await;
        let (written, _) = self.copied(address).await.expect("it answers");
        until("all is copied", PATIENCE, async || match self.copied(address).await? {
            (_, copied)
                if copied.len() >= replicas.len() && copied.iter().all(|offset| *offset >= written) =>
            {
                Ok(())
            }
            (_, copied) => Err(format!("{copied:?} of {written}")),
        })
        .await;
        replicas
    }

    /// Lets nobody copy any more what this one writes, until they are resumed. They have all that was written before.
    pub(crate) async fn cut_off(cluster: &mut impl Copied, member: usize) -> Vec<usize> {
        let replicas = cluster.redis().all_copied(member).await;
        for replica in &replicas {
            cluster.pause(*replica);
        }
        let redis = cluster.redis();
        let address = redis.members.iter().nth(member).expect("there are so many").clients;
        redis.cli_via(address, &["CLIENT", "KILL", "TYPE", "replica"]).await.expect("it is admitted");
        replicas
    }

    /// The words that start a member.
    fn server(&self, member: &Member, more: impl IntoIterator<Item = String>) -> (PathBuf, Vec<String>) {
        std::fs::create_dir_all(self.members.directory(member)).expect("the directory is made");
        let mut words = self.programs.words("server");
        words.extend(more);
        (words.remove(0).into(), words)
    }

    /// What a server is told, as names and what they are set to.
    fn settings(&self, member: &Member) -> Vec<(&'static str, String)> {
        let yes = || "yes".to_owned();
        let mut settings = self.listening(member);
        // A restart keeps whatever was acknowledged.
        settings.extend([
            ("save", String::new()),
            ("appendonly", yes()),
            ("appendfsync", "always".to_owned()),
        ]);
        settings.extend([("auto-aof-rewrite-percentage", "0".to_owned())]);
        settings.extend([("repl-diskless-sync-delay", "0".to_owned())]);
        if self.clustered {
            let bus = member.peers[0].port().to_string();
            settings.extend([("cluster-enabled", yes()), ("cluster-port", bus)]);
            settings.extend([("cluster-node-timeout", "2000".to_owned())]);
            if self.options.tls {
                settings.push(("tls-cluster", yes()));
            }
        }
        if self.options.auth {
            settings.push(("aclfile", self.users().display().to_string()));
            if self.options.members > 1 {
                settings.push(("masteruser", ADMIN.to_owned()));
                settings.push(("masterauth", ADMIN_PASSWORD.to_owned()));
            }
        }
        settings
    }

    /// Where it listens, and how.
    fn listening(&self, member: &Member) -> Vec<(&'static str, String)> {
        let port = member.clients.port().to_string();
        let plain = if self.options.tls { "0".to_owned() } else { port.clone() };
        let directory = self.members.directory(member).display().to_string();
        let mut settings = vec![
            ("port", plain),
            ("bind", "127.0.0.1".to_owned()),
            ("protected-mode", "no".to_owned()),
            ("dir", directory),
        ];
        if let Some(Certificates { authority, server, .. }) = &self.certificates {
            settings.extend([
                ("tls-port", port),
                ("tls-auth-clients", "yes".to_owned()),
                ("tls-replication", "yes".to_owned()),
                ("tls-cert-file", server.certificate.display().to_string()),
                ("tls-key-file", server.key.display().to_string()),
                ("tls-ca-cert-file", authority.display().to_string()),
            ]);
        }
        settings
    }

    fn users(&self) -> PathBuf {
        self.members.site().join("users.acl")
    }

    fn write_users(&self) {
        // The default user may do everything and be nobody: with fewer rights, a restart would silently skip all that
        // scripts wrote, https://github.com/redis/redis/issues/14541.
        let users = format!(
            "user default off +@all ~* &*\nuser {USER} on >{PASSWORD} ~{{quorate}}* &{{quorate}}* +@all -@dangerous +info\n\
             user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n"
        );
        std::fs::write(self.users(), users).expect("the users are written");
    }

    /// Whether this server takes writes or copies those of another that does.
    async fn serves(&self, member: SocketAddr) -> Result<(), String> {
        let info = self.cli_via(member, &["INFO", "replication"]).await?;
        if info.contains("master_link_status:down") {
            return Err(info);
        }
        if info.contains("role:master") && !self.clustered {
            self.cli_via(member, &["SET", "ready", "yes"]).await?;
        }
        if self.clustered && self.members.are_furnished() {
            let info = self.cli_via(member, &["CLUSTER", "INFO"]).await?;
            return info.starts_with("cluster_state:ok").then_some(()).ok_or(info);
        }
        Ok(())
    }
}

/// Servers some of which copy what others write.
pub(crate) trait Copied: Cluster {
    fn redis(&self) -> &Redis;
}

impl Copied for Redis {
    fn redis(&self) -> &Redis {
        self
    }
}

/// As arguments.
fn arguments(settings: Vec<(&'static str, String)>) -> impl Iterator<Item = String> {
    settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value])
}

#[async_trait]
impl Cluster for Redis {
    fn members(&self) -> &Members {
        &self.members
    }

    fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String {
        let scheme = match (self.clustered, self.options.tls) {
            (true, _) => "redis+cluster",
            (false, true) => "rediss",
            (false, false) => "redis",
        };
        let more = match (self.clustered, self.options.tls) {
            (false, _) => "",
            (true, false) => "?unsafe_failover=ack",
            (true, true) => "&unsafe_failover=ack&tls=true",
        };
        self.url_of(scheme, addresses, namespace) + more
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        let flags = self.options.flags.iter().cloned();
        self.server(member, arguments(self.settings(member)).chain(flags))
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        for member in members {
            self.serves(*member).await?;
        }
        Ok(())
    }

    async fn furnish(&mut self) {
        if self.clustered {
            let members: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
            let members: Vec<_> = members.iter().map(String::as_str).collect();
            let replicas = if self.options.members >= WITH_REPLICAS { "1" } else { "0" };
            let rest = ["--cluster-replicas", replicas, "--cluster-yes"];
            let create = [&["--cluster", "create"], &*members, &rest].concat();
            self.cli(&create).await.expect("the cluster is made");
        }
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        let role = self.cli_via(member, &["ROLE"]).await?;
        role.starts_with("master").then_some(()).ok_or_else(|| format!("{member} says that it is {role}"))
    }

    fn client_command(&self) -> String {
        let admin = self.options.auth.then_some((ADMIN, ADMIN_PASSWORD));
        shell(self.cli_command(admin, self.addresses()[0]).as_std())
    }
}

impl Redis {
    /// A URL without what only some schemes have.
    fn url_of(&self, scheme: &str, addresses: &[SocketAddr], namespace: &str) -> String {
        let user = if self.options.auth {
            format!("{USER}:{}@", utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC))
        } else {
            String::new()
        };
        let hosts = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        format!("{scheme}://{user}{hosts}{}", url_rest(namespace, self.certificates()))
    }
}
