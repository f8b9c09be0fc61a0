//! Running servers of any kind, to be failed and brought back.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::process::Signal;

use super::{Lines, PATIENCE, Server, Site, Waiting, free_port};

/// One or more servers of a kind that are one store together. Dropping it ends them and removes their data.
///
/// A kind of server says what is particular to it, in the methods without a body; the rest is the same for all.
#[async_trait]
pub(crate) trait Cluster: Debug + Send + Sync + 'static {
    fn members(&self) -> &Members;

    fn members_mut(&mut self) -> &mut Members;

    /// What to connect to through these addresses, such as those of proxies, with everything that a client needs.
    fn url_via(&self, addresses: &[SocketAddr], namespace: &str) -> String;

    /// The program that is this member, and its arguments. What it reads from its directory is written there first.
    fn program(&self, member: &Member) -> (PathBuf, Vec<String>);

    /// Whether each of these answers what takes a majority; and why not.
    async fn serve(&self, members: &[SocketAddr]) -> Result<(), String>;

    /// Whether this one leads, as it says itself; and why not.
    async fn leads(&self, member: SocketAddr) -> Result<(), String>;

    /// Makes what clients need of servers that serve and have no data, such as users.
    async fn furnish(&mut self) {}

    /// Lays lines between the members, before the first of them starts, if they were asked for.
    async fn lay_lines(&mut self) {}

    /// The lines between the members, if there are any.
    fn lines(&self) -> Option<&Lines> {
        None
    }

    /// Whether this member, which runs, has lost the others and serves nobody, as it says itself; and if not, what it says.
    async fn is_deserted(&self, _member: SocketAddr) -> Result<(), String> {
        Err("nobody knows how to ask it".to_owned())
    }

    /// Its own client, as one would type it.
    fn client_command(&self) -> String;

    /// Where clients find each member.
    fn addresses(&self) -> Vec<SocketAddr> {
        self.members().list.iter().map(|member| member.clients).collect()
    }

    /// What to connect to, with everything that a client needs.
    fn url(&self, namespace: &str) -> String {
        self.url_via(&self.addresses(), namespace)
    }

    /// What a running member printed.
    fn log(&self, member: usize) -> String {
        self.members().running(member).log()
    }

    /// The member that leads, of those that run; waits until one does.
    async fn leader(&self) -> usize {
        let mut waiting = Waiting::new("one leads", PATIENCE);
        loop {
            for (index, member) in self.members().iter().enumerate().filter(|(_, member)| member.serves()) {
                if waiting.ask(self.leads(member.clients)).await.is_some() {
                    return index;
                }
            }
            waiting.rest().await;
        }
    }

    /// SIGKILL.
    fn kill(&mut self, member: usize) {
        let member = &mut self.members_mut().list[member];
        member.server = None;
        member.paused = false;
    }

    /// SIGSTOP.
    fn pause(&mut self, member: usize) {
        self.members().running(member).signal(Signal::STOP);
        self.members_mut().list[member].paused = true;
    }

    /// SIGCONT.
    fn resume(&mut self, member: usize) {
        self.members().running(member).signal(Signal::CONT);
        self.members_mut().list[member].paused = false;
    }

    /// Kills the member if it runs, starts it with its data, and waits until it serves. The others must be enough
    /// for that; see [`Cluster::restart_all`] where they are not.
    async fn restart(&mut self, member: usize) {
        self.kill(member);
        self.spawn(member);
        self.ready().await;
    }

    /// Kills every member, starts them with their data, and waits until all serve.
    async fn restart_all(&mut self) {
        (0..self.members().list.len()).for_each(|member| self.kill(member));
        (0..self.members().list.len()).for_each(|member| self.spawn(member));
        self.ready().await;
    }

    /// Kills every member, and starts the cluster anew with no data, at the same addresses.
    async fn wipe(&mut self) {
        (0..self.members().list.len()).for_each(|member| self.kill(member));
        for member in &self.members().list {
            std::fs::remove_dir_all(self.members().directory(member)).expect("it had data");
        }
        self.begin().await;
    }

    /// Starts every member, which have no data yet.
    async fn begin(&mut self) {
        let members = self.members_mut();
        members.lives += 1;
        members.furnished = false;
        self.restart_all().await;
        self.furnish().await;
        self.members_mut().furnished = true;
        self.ready().await;
    }

    /// Starts a member.
    fn spawn(&mut self, member: usize) {
        let (program, arguments) = self.program(&self.members().list[member]);
        let Members { list, site, .. } = self.members_mut();
        let member = &mut list[member];
        member.server = Some(site.start(&member.name, &program, &arguments));
    }

    /// Waits until every member that should serve does.
    async fn ready(&mut self) {
        let serving = self.members().list.iter().filter(|member| member.serves());
        let addresses: Vec<_> = serving.map(|member| member.clients).collect();
        let mut waiting = Waiting::new("it serves", PATIENCE);
        while waiting.ask(self.serve(&addresses)).await.is_none() {
            self.members_mut().bury();
            waiting.rest().await;
        }
    }
}

/// The members of a cluster, and the directory they live in.
#[derive(Debug)]
pub(crate) struct Members {
    list: Vec<Member>,
    site: Site,
    lives: u32,
    furnished: bool,
}

impl Members {
    /// So many members, none of which runs yet, of a kind of server that is called so.
    pub(crate) fn new(server: &str, count: u16) -> Self {
        let list = (1..=count).map(Member::new).collect();
        Self { list, site: Site::new(server), lives: 0, furnished: false }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    /// How often they began with no data.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// Whether there is what clients need, such as users.
    pub(crate) fn are_furnished(&self) -> bool {
        self.furnished
    }

    /// Where all of them live.
    pub(crate) fn site(&self) -> &Path {
        self.site.directory()
    }

    /// Where the data of this one is. Whoever has to be told makes it.
    pub(crate) fn directory(&self, member: &Member) -> PathBuf {
        self.site.directory().join(&member.name)
    }

    fn running(&self, member: usize) -> &Server {
        self.list[member].server.as_ref().expect("it runs")
    }

    /// Fails if one has ended by itself.
    fn bury(&mut self) {
        for member in &mut self.list {
            if let Some(obituary) = member.server.as_mut().and_then(Server::obituary) {
                panic!("{}: {obituary}", member.name);
            }
        }
    }
}

/// One of the servers.
#[derive(Debug)]
pub(crate) struct Member {
    /// It is different from that of every other member.
    pub(crate) name: String,
    /// Counted from one.
    pub(crate) number: u16,
    /// Where clients find it.
    pub(crate) clients: SocketAddr,
    /// Where the other members find it. Some kinds of servers need one, and some two.
    pub(crate) peers: [SocketAddr; 2],
    /// Where the kit finds it, if it needs a way past what clients have to go through.
    pub(crate) back: SocketAddr,
    server: Option<Server>,
    paused: bool,
}

impl Member {
    fn new(number: u16) -> Self {
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Self {
            name: format!("m{number}"),
            number,
            clients: address(),
            peers: [address(), address()],
            back: address(),
            server: None,
            paused: false,
        }
    }

    /// Whether it should answer.
    fn serves(&self) -> bool {
        self.server.is_some() && !self.paused
    }
}
