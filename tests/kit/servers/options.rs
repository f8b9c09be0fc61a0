//! What a cluster is to be like, whatever servers it is of.

use std::fmt::Debug;

use super::cluster::Cluster;

/// The versions of a kind of server, of which there is one value each.
pub(crate) trait Release: Copy + Debug + PartialEq + Send + Sync + 'static {
    type Cluster: Cluster;

    /// What the server is called: by the feature of its backend, in URLs and in the names of its trials.
    const SERVER: &'static str;

    /// What `scripts/servers install` unpacks, the last of which is taken where one will do.
    const USUAL: &'static [Self];

    /// What it unpacks with `--full`.
    const ALL: &'static [Self];

    /// With how many members one of them can fail and come back, and lose nothing.
    const TROUBLED: u16 = 3;

    fn name(self) -> &'static str;

    /// Prepares what the options say, and starts nothing.
    fn prepare(options: Options<Self>) -> Self::Cluster;

    /// Where one will do.
    fn usual() -> Self {
        *Self::USUAL.last().expect("there is one")
    }

    /// Those that this run of the tests is about.
    fn tried() -> &'static [Self] {
        if is_full() { Self::ALL } else { Self::USUAL }
    }
}

/// Whether this run of the tests is about everything there is.
pub(crate) fn is_full() -> bool {
    std::env::var_os("QUORATE_TEST_FULL").is_some_and(|full| !full.is_empty())
}

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Options<V> {
    pub(crate) version: V,
    pub(crate) members: u16,
    pub(crate) tls: bool,
    pub(crate) auth: bool,
    pub(crate) lines: bool,
    pub(crate) flags: Vec<String>,
}

impl<V: Release> Options<V> {
    /// One member that anybody may use, with neither encryption nor users.
    pub(crate) fn new(version: V) -> Self {
        Self { version, members: 1, tls: false, auth: false, lines: false, flags: Vec::new() }
    }

    /// The version that is called so.
    pub(crate) fn version(self, name: &str) -> Result<Self, String> {
        let version = V::ALL.iter().copied().find(|version| version.name() == name);
        let version = version.ok_or_else(|| format!("{} has no version {name:?} here", V::SERVER))?;
        Ok(Self { version, ..self })
    }

    pub(crate) fn members(self, members: u16) -> Self {
        Self { members, ..self }
    }

    /// Encryption with certificates asked of clients and members.
    pub(crate) fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Only for those who say who they are. URLs do.
    pub(crate) fn auth(self) -> Self {
        Self { auth: true, ..self }
    }

    /// Lines between the members that can be cut, where the kit knows how; see [`Cluster::lines`].
    pub(crate) fn lines(self) -> Self {
        Self { lines: true, ..self }
    }

    /// One more argument or setting of the server itself, for example `--auth-token-ttl=2`; it has the last word.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts it and waits until every member serves.
    pub(crate) async fn start(self) -> V::Cluster {
        let mut cluster = V::prepare(self);
        cluster.lay_lines().await;
        cluster.begin().await;
        cluster
    }
}
