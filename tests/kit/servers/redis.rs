//! A Redis, alone or as a cluster of three primaries and more, and the real `redis-cli`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::certificates::Certificates;
use super::{Cluster, Member, Members, Release, in_path, shell, unpacked, url_rest};

/// Who may do what the backend does, to its own keys; the URL names him when there is authentication.
pub(crate) const USER: &str = "app";
/// The password of [`USER`], with what URLs give a meaning to.
pub(crate) const PASSWORD: &str = "p@ss:w/rd%41?";
/// Who may do everything. `redis-cli` is him when there is authentication.
const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "adminpw";

/// What `scripts/servers install redis` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V7_0,
}

impl Release for Version {
    type Cluster = Redis;

    const SERVER: &'static str = "redis";
    const USUAL: &'static [Self] = &[Self::V7_0];
    const ALL: &'static [Self] = &[Self::V7_0];

    /// It is alone, and keeps all that it acknowledged.
    const TROUBLED: u16 = 1;

    fn name(self) -> &'static str {
        match self {
            Self::V7_0 => "7.0",
        }
    }

    fn prepare(options: Options) -> Redis {
        let programs = options.version.programs();
        let members = Members::new(Self::SERVER, options.members);
        let certificates = options.tls.then(|| Certificates::new(&members.site().join("certificates")));
        Redis { options, programs, certificates, members }
    }
}

impl Version {
    /// The directory with `redis-server` and `redis-cli`.
    fn programs(self) -> PathBuf {
        let ours = unpacked(&format!("redis-{}", self.name()));
        if ours.join("redis-server").exists() {
            return ours;
        }
        // One of PATH will do if it is the version that the test asks for.
        let fits = |redis: &PathBuf| {
            let printed = Command::new(redis).arg("--version").output().expect("it runs").stdout;
            let wanted = format!(" v={}.", self.name());
            String::from_utf8_lossy(&printed).contains(&wanted) && redis.with_file_name("redis-cli").is_file()
        };
        match in_path("redis-server").into_iter().find(fits) {
            Some(redis) => redis.with_file_name(""),
            None => panic!(
                "redis {} is neither in {} nor in PATH: scripts/servers install redis",
                self.name(),
                ours.display(),
            ),
        }
    }
}

pub(crate) type Options = super::Options<Version>;

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Redis {
    options: Options,
    programs: PathBuf,
    certificates: Option<Certificates>,
    members: Members,
}

impl Redis {
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

    async fn cli_via(&self, address: SocketAddr, arguments: &[&str]) -> Result<String, String> {
        let output = self.cli_command(address).args(arguments).output().await.expect("redis-cli runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        // Of an error that the server tells, `-e` makes a failure.
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{} {}", text(&output.stdout), text(&output.stderr)))
        }
    }

    /// A `redis-cli` that lacks only its arguments, for those that run on, such as `MONITOR`.
    pub(crate) fn cli_command(&self, address: SocketAddr) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.programs.join("redis-cli"));
        command.env_clear().env("LD_LIBRARY_PATH", libraries(&self.programs));
        command.stdin(Stdio::null()).kill_on_drop(true).arg("-e");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(authority);
            command.arg("--cert").arg(&client.certificate).arg("--key").arg(&client.key);
        }
        if self.options.auth {
            command.args(["--user", ADMIN, "--pass", ADMIN_PASSWORD, "--no-auth-warning"]);
        }
        command
    }

    fn arguments(&self, member: &Member) -> Vec<String> {
        let port = member.clients.port().to_string();
        let directory = self.members.directory(member).display().to_string();
        let plain = if self.certificates.is_some() { "0" } else { &*port };
        // A restart keeps whatever was acknowledged.
        let mut arguments = ["--port", plain, "--bind", "127.0.0.1", "--protected-mode", "no", "--save", ""]
            .into_iter()
            .chain(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"])
            .chain(["--dir", &directory])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        if let Some(Certificates { authority, server, .. }) = &self.certificates {
            let files = [
                ("--tls-cert-file", &server.certificate),
                ("--tls-key-file", &server.key),
                ("--tls-ca-cert-file", authority),
            ];
            arguments.extend([
                "--tls-port".to_owned(),
                port,
                "--tls-auth-clients".to_owned(),
                "yes".to_owned(),
            ]);
            arguments.extend(
                files.into_iter().flat_map(|(name, file)| [name.to_owned(), file.display().to_string()]),
            );
        }
        if self.is_cluster() {
            let bus = member.peers[0].port().to_string();
            let cluster =
                ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            arguments.extend(cluster.map(str::to_owned));
        }
        if self.options.auth {
            arguments.extend(["--aclfile".to_owned(), self.write_users().display().to_string()]);
        }
        arguments.extend(self.options.flags.iter().cloned());
        arguments
    }

    fn is_cluster(&self) -> bool {
        self.options.members > 1
    }

    fn write_users(&self) -> PathBuf {
        let file = self.members.site().join("users.acl");
        // The default user may do everything and be nobody: with fewer rights, a restart would silently skip all that
        // scripts wrote, https://github.com/redis/redis/issues/14541.
        let users = format!(
            "user default off +@all ~* &*\nuser {USER} on >{PASSWORD} ~{{quorate}}* +@all -@dangerous +info\n\
             user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n"
        );
        std::fs::write(&file, users).expect("the users are written");
        file
    }
}

/// Where the libraries lie that came with the programs.
fn libraries(programs: &Path) -> String {
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    programs.with_file_name("lib").join(architecture).display().to_string()
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
        let user = if self.options.auth {
            format!("{USER}:{}@", utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC))
        } else {
            String::new()
        };
        let scheme = match (self.is_cluster(), self.options.tls) {
            (true, _) => "redis+cluster",
            (false, true) => "rediss",
            (false, false) => "redis",
        };
        let hosts = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let url = format!("{scheme}://{user}{hosts}{}", url_rest(namespace, self.certificates()));
        match (self.is_cluster(), self.options.tls) {
            (false, _) => url,
            (true, false) => url + "?unsafe_failover=ack",
            (true, true) => url + "&unsafe_failover=ack&tls=true",
        }
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        std::fs::create_dir_all(self.members.directory(member)).expect("the directory is made");
        let libraries = format!("LD_LIBRARY_PATH={}", libraries(&self.programs));
        let server = self.programs.join("redis-server").display().to_string();
        let arguments = [libraries, server].into_iter().chain(self.arguments(member)).collect();
        ("/usr/bin/env".into(), arguments)
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        for member in members {
            if !self.is_cluster() {
                self.cli_via(*member, &["SET", "ready", "yes"]).await?;
                continue;
            }
            let info = self.cli_via(*member, &["CLUSTER", "INFO"]).await?;
            if self.members.are_furnished() && !info.starts_with("cluster_state:ok") {
                return Err(info);
            }
        }
        Ok(())
    }

    async fn furnish(&mut self) {
        if self.is_cluster() {
            let members: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
            let members: Vec<_> = members.iter().map(String::as_str).collect();
            let create = [&["--cluster", "create"], &*members, &["--cluster-yes"]].concat();
            self.cli(&create).await.expect("the cluster is made");
        }
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        let role = self.cli_via(member, &["ROLE"]).await?;
        role.starts_with("master").then_some(()).ok_or_else(|| format!("{member} says that it is {role}"))
    }

    fn client_command(&self) -> String {
        let command = self.cli_command(self.addresses()[0]);
        format!("LD_LIBRARY_PATH={} {}", libraries(&self.programs), shell(command.as_std()))
    }
}
