//! A primary, two replicas, and three sentinels that see to it that one of them is a primary.

use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{ADMIN, ADMIN_PASSWORD, Copied, Options, Redis, arguments};
use crate::servers::{Cluster, Member, Members, shell};

/// What the sentinels call the primary.
pub(crate) const NAME: &str = "m";

/// Who may ask the sentinels when there is authentication; the servers do not know him.
pub(crate) const FINDER: &str = "finder";
pub(crate) const FINDER_PASSWORD: &str = "f&nd=r";

/// How many of the members are servers; the others are sentinels. The first is the primary to begin with.
const SERVERS: usize = 3;

/// The members that are sentinels.
pub(crate) const SENTINELS: std::ops::Range<usize> = SERVERS..2 * SERVERS;

/// Servers under sentinels. Dropping it ends all of them and removes their data.
#[derive(Debug)]
pub(crate) struct Sentinels(Redis);

impl Sentinels {
    pub(crate) async fn start(options: Options) -> Self {
        let mut started = Self(Redis::prepare(options.members(6), false));
        started.begin().await;
        started
    }

    /// Asks a sentinel.
    pub(crate) async fn ask(&self, sentinel: usize, arguments: &[&str]) -> Result<String, String> {
        self.asked(self.address(sentinel), arguments).await
    }

    async fn asked(&self, sentinel: SocketAddr, arguments: &[&str]) -> Result<String, String> {
        let user = self.0.options.auth.then_some((FINDER, FINDER_PASSWORD));
        self.0.cli_as(user, sentinel, arguments).await
    }

    /// Runs `redis-cli` on a server.
    pub(crate) async fn cli(&self, server: usize, arguments: &[&str]) -> Result<String, String> {
        self.0.cli_via(self.address(server), arguments).await
    }

    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.0.members.iter().nth(member).expect("there are so many").clients
    }

    fn is_server(&self, address: SocketAddr) -> bool {
        self.0.members.iter().take(SERVERS).any(|member| member.clients == address)
    }

    /// Written once: a sentinel keeps there what it learns.
    fn configure(&self, member: &Member) -> PathBuf {
        let directory = self.0.members.directory(member);
        std::fs::create_dir_all(&directory).expect("the directory is made");
        let file = directory.join("sentinel.conf");
        if file.exists() {
            return file;
        }
        let primary = self.address(0);
        let mut lines: Vec<_> =
            self.0.listening(member).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        lines.extend([
            format!("sentinel monitor {NAME} {} {} 2", primary.ip(), primary.port()),
            format!("sentinel down-after-milliseconds {NAME} 2000"),
            format!("sentinel failover-timeout {NAME} 5000"),
        ]);
        if self.0.options.auth {
            lines.extend([
                format!("sentinel auth-user {NAME} {ADMIN}"),
                format!("sentinel auth-pass {NAME} {ADMIN_PASSWORD}"),
                format!("sentinel sentinel-user {FINDER}"),
                format!("sentinel sentinel-pass {FINDER_PASSWORD}"),
                "user default off".to_owned(),
                format!("user {FINDER} on >{FINDER_PASSWORD} allchannels +@all"),
            ]);
        }
        std::fs::write(&file, lines.join("\n") + "\n").expect("the configuration is written");
        file
    }

    /// Whether it knows one primary that lives, with all replicas, and the other sentinels.
    async fn watches(&self, sentinel: SocketAddr) -> Result<(), String> {
        let told = self.asked(sentinel, &["SENTINEL", "MASTER", NAME]).await?;
        let lines: Vec<_> = told.lines().collect();
        let is = |name: &str, value: &str| lines.windows(2).any(|pair| pair == [name, value]);
        let settled = is("flags", "master") && is("num-slaves", "2") && is("num-other-sentinels", "2");
        if settled { Ok(()) } else { Err(told) }
    }
}

impl Copied for Sentinels {
    fn redis(&self) -> &Redis {
        &self.0
    }
}

#[async_trait]
impl Cluster for Sentinels {
    fn members(&self) -> &Members {
        &self.0.members
    }

    fn members_mut(&mut self) -> &mut Members {
        &mut self.0.members
    }

    /// Clients are told of the sentinels.
    fn addresses(&self) -> Vec<SocketAddr> {
        SENTINELS.map(|sentinel| self.address(sentinel)).collect()
    }

    fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String {
        let mut url = self.0.url_of("redis+sentinel", addresses, namespace);
        url += if url.contains('?') { "&tls=true&" } else { "?" };
        if self.0.options.auth {
            let password = utf8_percent_encode(FINDER_PASSWORD, NON_ALPHANUMERIC);
            url = format!("{url}sentinel_user={FINDER}&sentinel_password={password}&");
        }
        url + &format!("master={NAME}&unsafe_failover=ack")
    }

    fn program(&self, member: &Member) -> (PathBuf, Vec<String>) {
        if !self.is_server(member.clients) {
            let file = self.configure(member).display().to_string();
            return self.0.server(member, [file, "--sentinel".to_owned()]);
        }
        let primary = self.address(0);
        let copies = ["--replicaof".to_owned(), primary.ip().to_string(), primary.port().to_string()];
        let copies = copies.into_iter().filter(|_| member.clients != primary);
        self.0.server(member, arguments(self.0.settings(member)).chain(copies))
    }

    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String> {
        for member in members {
            if self.is_server(*member) {
                self.0.serves(*member).await?;
            } else if self.0.members.are_furnished() {
                self.watches(*member).await?;
            } else {
                self.asked(*member, &["PING"]).await?;
            }
        }
        Ok(())
    }

    async fn furnish(&mut self) {
        // Else they would look for replicas every ten seconds.
        let periods =
            ["info-period", "500", "publish-period", "300", "ping-period", "200", "ask-period", "200"];
        for sentinel in SENTINELS {
            let hasten = [&["SENTINEL", "DEBUG"], &periods[..]].concat();
            self.ask(sentinel, &hasten).await.expect("it hastens");
        }
    }

    async fn leads(&self, member: SocketAddr) -> Result<(), String> {
        if self.is_server(member) { self.0.leads(member).await } else { Err(format!("{member} is none")) }
    }

    fn client_command(&self) -> String {
        let user = self.0.options.auth.then_some((FINDER, FINDER_PASSWORD));
        shell(self.0.cli_command(user, self.address(SERVERS)).as_std())
    }
}
