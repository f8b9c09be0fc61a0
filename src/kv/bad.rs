//! Known-bad variants of this crate, which the simulation must find out.
//!
//! They exist only under `--cfg quorate_bad`, where the variable `QUORATE_BAD` names one; in every other build this is
//! `false`, and the compiler drops them.

/// Whether this known-bad variant is on.
#[cfg(not(quorate_bad))]
pub(crate) const fn bad(_: &str) -> bool {
    false
}

/// Whether this known-bad variant is on.
#[cfg(quorate_bad)]
pub(crate) fn bad(switch: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("QUORATE_BAD").ok());
    CHOSEN.as_deref() == Some(switch)
}
