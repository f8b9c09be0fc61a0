//! A ZooKeeper of one or more servers, the plain protocol, and its clients: kazoo and Curator.

mod native;
pub(crate) mod plain;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) use self::native::bare_kazoo;
use self::plain::{Acl, Plain, word};
use super::certificates::{Certificates, Identity};
use super::{Cluster, Lines, Member, Members, Release, in_path, shell, unpacked, url_rest};

/// Who owns everything where there is authentication; the URL names him.
pub(crate) const USER: &str = "app";
/// The password of [`USER`], with what URLs give a meaning to.
pub(crate) const PASSWORD: &str = "p@ss:w/rd%41 ?";
/// As what nodes know [`USER`]: his name, and a digest of it with his password.
pub(crate) const USER_ID: &str = "app:5ohL+U4zI8jOxYONOAyHN25vSRo=";
/// Who may do everything to every server of the kit, and as what they know him.
const SUPER: &str = "super:superpw";
const SUPER_ID: &str = "super:g9oN2HttPfn8MMWJZ2r45Np/LIA=";

/// What of Debian's packages a server needs, in the order in which it is looked at: the manifests name others.
const JARS: [&str; 16] = [
    "zookeeper-jute",
    "zookeeper",
    "slf4j-api",
    "slf4j-simple",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "metrics-core",
    "commons-cli",
    "commons-io",
    "snappy-java",
];

/// What `scripts/servers install zookeeper` unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3_8,
    /// The newest that Debian has, with `--full`.
    V3_9,
}

pub(crate) type Options = super::Options<Version>;

/// The setting that makes servers know who says by SASL who he is.
const SASL: &str = "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
/// The setting that makes them refuse whoever does not.
const SASL_REQUIRED: &str = "sessionRequireClientSASLAuth=true";

impl Options {
    /// Only for those who say who they are by SASL's DIGEST-MD5. URLs do.
    pub(crate) fn sasl(self) -> Self {
        self.auth().flag(SASL)
    }

    /// The same, and anybody else is hung up on.
    pub(crate) fn sasl_required(self) -> Self {
        self.sasl().flag(SASL_REQUIRED)
    }

    fn has(&self, setting: &str) -> bool {
        self.flags.iter().any(|flag| flag == setting)
    }
}

impl Release for Version {
    type Cluster = ZooKeeper;

    const SERVER: &'static str = "zookeeper";
    const USUAL: &'static [Self] = &[Self::V3_8];
    const ALL: &'static [Self] = &[Self::V3_8, Self::V3_9];

    fn name(self) -> &'static str {
        match self {
            Self::V3_8 => "3.8",
            Self::V3_9 => "3.9",
        }
    }

    fn prepare(options: Options) -> ZooKeeper {
        let (java, jars) = (java(), options.version.jars());
        let members = Members::new(Self::SERVER, options.members);
        let certificates = options.tls.then(|| Certificates::new(&members.site().join("certificates")));
        if let Some(Certificates { server, .. }) = &certificates {
            join(server);
        }
        let zookeeper = ZooKeeper { options, java, jars, certificates, members, lines: None };
        if zookeeper.options.has(SASL) {
            zookeeper.set_sasl_password(PASSWORD);
        }
        zookeeper
    }
}

impl Version {
    /// The directory with the jars.
    fn jars(self) -> PathBuf {
        let directory = unpacked(&format!("zookeeper-{}", self.name())).with_file_name("share/java");
        assert!(
            directory.join("zookeeper.jar").is_file(),
            "zookeeper {} is not in {}: scripts/servers install zookeeper{}",
            self.name(),
            directory.display(),
            if self == Self::V3_9 { " --full" } else { "" }
        );
        directory
    }
}

fn java() -> PathBuf {
    let found = in_path("java").into_iter().next();
    found.expect("no java is in PATH; Debian's package is openjdk-17-jre-headless")
}

/// These jars of a directory.
fn class_path(directory: &Path, jars: &[&str]) -> String {
    let jars = jars.iter().map(|jar| directory.join(jar).with_extension("jar").display().to_string());
    jars.collect::<Vec<_>>().join(":")
}

/// Java reads a certificate and its key from one file.
fn join(identity: &Identity) {
    let read = |file: &Path| std::fs::read_to_string(file).expect("it is read");
    let both = read(&identity.key) + &read(&identity.certificate);
    std::fs::write(joined(identity), both).expect("the file is written");
}

/// Where both are.
fn joined(identity: &Identity) -> PathBuf {
    identity.certificate.with_extension("both.pem")
}

/// A running cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub(crate) struct ZooKeeper {
    options: Options,
    java: PathBuf,
    jars: PathBuf,
    certificates: Option<Certificates>,
    members: Members,
    lines: Option<Lines>,
}

impl ZooKeeper {
    /// Changes what [`USER`] has to know to be known by SASL; a server reads it when it starts.
    pub(crate) fn set_sasl_password(&self, password: &str) {
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
        let text = format!("Server {{ {module} required user_{USER}=\"{password}\"; }};\n");
        std::fs::write(self.sasl_users(), text).expect("the file is written");
    }

    /// Where the servers look for those that SASL knows.
    fn sasl_users(&self) -> PathBuf {
        self.members.site().join("users.jaas")
    }

    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// A session with a member, past its encryption, as who may do everything.
    pub(crate) async fn plain(&self, member: usize) -> Result<Plain, String> {
        let member = self.members.iter().nth(member).expect("there are so many");
        let mut plain = Plain::open(self.door(member), Duration::from_secs(10)).await?;
        plain.auth("digest", SUPER).await?;
        Ok(plain)
    }

    /// What a member answers to one of its four letter words.
    pub(crate) async fn word(&self, member: usize, letters: &str) -> Result<String, String> {
        let member = self.members.iter().nth(member).expect("there are so many");
        word(self.door(member), letters).await
    }

    /// Where the data of each member is.
    pub(crate) fn data(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| self.members.directory(member)).collect()
    }

    /// Where we find a member: it listens for us alone too if clients have to speak TLS.
    fn door(&self, member: &Member) -> SocketAddr {
        if self.options.tls { member.back } else { member.clients }
    }

    fn configuration(&self, member: &Member) -> String {
        let mut text = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=6\nmaxClientCnxns=0\nminSessionTimeout=1000\n\
             maxSessionTimeout=60000\nadmin.enableServer=false\n4lw.commands.whitelist=*\nforceSync=no\n\
             dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\n",
            self.members.directory(member).display(),
            self.door(member).port(),
        );
        let mut set = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name}={value}").expect("a string grows");
        };
        if self.options.members > 1 {
            set("standaloneEnabled", &false);
            for Member { number, peers: [quorum, election], .. } in self.members.iter() {
                let line = self.lines.as_ref().and_then(|lines| lines.address(member.number, *number));
                let address = format!("127.0.0.1:{}:{}", line.unwrap_or(*quorum).port(), election.port());
                set(&format!("server.{number}"), &address);
            }
        }
        if let Some(Certificates { authority, server, .. }) = &self.certificates {
            set("secureClientPortAddress", &"127.0.0.1");
            set("secureClientPort", &member.clients.port());
            set("serverCnxnFactory", &"org.apache.zookeeper.server.NettyServerCnxnFactory");
            set("sslQuorum", &(self.options.members > 1));
            for prefix in ["ssl", "ssl.quorum"] {
                set(&format!("{prefix}.clientAuth"), &"need");
                set(&format!("{prefix}.keyStore.location"), &joined(server).display());
                set(&format!("{prefix}.keyStore.type"), &"PEM");
                set(&format!("{prefix}.trustStore.location"), &authority.display());
                set(&format!("{prefix}.trustStore.type"), &"PEM");
            }
        }
        let settings = self.options.flags.iter().filter(|flag| !flag.starts_with('-'));
        settings.fold(text, |text, line| text + line + "\n")
    }
}

#[async_trait]
impl Cluster for ZooKeeper {
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
        let rest = url_rest(namespace, self.certificates());
        let sasl = match (self.options.has(SASL), rest.contains('?')) {
            (false, _) => "",
            (true, false) => "?sasl=digest-md5",
            (true, true) => "&sasl=digest-md5",
        };
        format!("zookeeper://{user}{hosts}{rest}{sasl}")
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        let data = self.members.directory(member);
        std::fs::create_dir_all(&data).expect("the directory is made");
        std::fs::write(data.join("myid"), member.number.to_string()).expect("the file is written");
        let file = self.members.site().join(format!("{}.cfg", member.name));
        std::fs::write(&file, self.configuration(member)).expect("the file is written");
        let sasl = format!("-Djava.security.auth.login.config={}", self.sasl_users().display());
        let properties = self.options.flags.iter().filter(|flag| flag.starts_with('-')).cloned();
        let properties = properties.chain(self.options.has(SASL).then_some(sasl));
        let arguments = [
            "-Xms32m",
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            // Each of its logs would begin with 64 MiB.
            "-Dzookeeper.preAllocSize=1024",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            &format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_ID}"),
            "-cp",
            &class_path(&self.jars, &JARS),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            &file.display().to_string(),
        ];
        (self.java.clone(), properties.chain(arguments.map(str::to_owned)).collect())
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        for member in self.members.iter().filter(|member| members.contains(&member.clients)) {
            // That a session begins and ends takes a majority each.
            let plain = Plain::open(self.door(member), Duration::from_secs(1)).await;
            let plain = plain.map_err(|error| format!("{}: {error}", member.name))?;
            // Nor is it let do anything else where SASL is required.
            if !self.options.has(SASL_REQUIRED) {
                plain.close().await?;
            }
        }
        Ok(())
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        let found = self.members.iter().find(|found| found.clients == member).expect("it is one of them");
        let status = word(self.door(found), "srvr").await?;
        let leads = status.lines().any(|line| line == "Mode: leader" || line == "Mode: standalone");
        leads.then_some(()).ok_or(status)
    }

    async fn lay_lines(&mut self) {
        if self.options.lines {
            self.lines = Some(Lines::between(&self.members).await);
        }
    }

    fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    async fn is_deserted(&self, member: SocketAddr) -> Result<(), String> {
        let found = self.members.iter().find(|found| found.clients == member).expect("it is one of them");
        let status = word(self.door(found), "srvr").await?;
        if status.contains("not currently serving requests") { Ok(()) } else { Err(status) }
    }

    async fn furnish(&mut self) {
        if self.options.auth && !self.options.has(SASL_REQUIRED) {
            let mut plain = self.plain(0).await.expect("it serves");
            let owner = if self.options.has(SASL) { Acl("sasl", USER) } else { Acl("digest", USER_ID) };
            plain.set_acl("/", owner).await.expect("the root is his");
            plain.close().await.expect("it serves");
        }
    }

    fn client_command(&self) -> String {
        shell(self.kazoo(&self.addresses(), &["get", "/"]).as_std())
    }
}
