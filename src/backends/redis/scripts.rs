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
    let size = arguments.iter().map(|argument| argument.len()).sum::<usize>();
    let mut command = Cmd::with_capacity(4 + arguments.len(), size + script.len() + meta.len() + 16);
    command.arg(name).arg(script).arg(1).arg(meta);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

macro_rules! scripts {
    ($($(#[$about:meta])* $name:ident = $($piece:literal)*;)*) => {$(
        $(#[$about])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/state.lua"),
                $(include_str!(concat!("scripts/", $piece, ".lua"))),*
            ))
        });
    )*};
}

scripts! {
    LIST = "life" "lives" "list";
    PUT = "life" "tell" "put";
    COMMIT = "life" "lives" "marks" "tell" "write" "commit";
    DELETE_PREFIX = "life" "lives" "marks" "covered" "tell" "write" "delete_prefix";
    GRANT = "life" "lives" "tell" "write" "bury" "grant";
    RENEW = "life" "lives" "tell" "write" "bury" "renew";
    REVOKE = "life" "lives" "tell" "write" "bury" "revoke";
    ENTER = "life" "lives" "marks" "tell" "places" "enter" "write" "over";
    AHEAD = "life" "lives" "marks" "places" "ahead";
    LEAVE = "life" "lives" "marks" "tell" "leave";
    /// Sees whether what this client saw stands there still.
    VERIFY = "verify" "life" "ok";
    /// Buries the dead, says when to look again, and what stands at some keys.
    TICK = "life" "lives" "marks" "tell" "write" "bury" "tick";
}

/// Tries what the others do, on a key of its own.
pub(super) static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/probe.lua")));
