//! The Lua scripts, each of which checks, writes and numbers in one step on the server.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, and the name that the server knows it by once it has seen it.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Runs it by its name on the slot of `meta`.
    pub(super) fn by_name(&self, meta: &str, arguments: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.hash, meta, arguments)
    }

    /// Runs it on a server that has not seen it.
    pub(super) fn in_full(&self, meta: &str, arguments: &[&[u8]]) -> Cmd {
        command("EVAL", self.code, meta, arguments)
    }
}

fn command(name: &str, script: &str, meta: &str, arguments: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(1).arg(meta);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

macro_rules! scripts {
    ($($(#[$about:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$about])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!($file)))
        });
    )*};
}

scripts! {
    GET = "scripts/get.lua";
    LIST = "scripts/list.lua";
    COMMIT = "scripts/commit.lua";
    DELETE_PREFIX = "scripts/delete_prefix.lua";
    GRANT = "scripts/grant.lua";
    RENEW = "scripts/renew.lua";
    REVOKE = "scripts/revoke.lua";
    ENTER = "scripts/enter.lua";
    AHEAD = "scripts/ahead.lua";
    /// Sees whether what this client saw stands there still.
    VERIFY = "scripts/verify.lua";
    /// Buries the dead, and says when to look again.
    TICK = "scripts/tick.lua";
}

/// Tries what the others do, on a key of its own.
pub(super) static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/probe.lua")));
