//! What to know beyond the items: how it is built, what it promises, and recipes.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("command.md")]
pub mod command {}

#[doc = include_str!("layouts.md")]
pub mod layouts {}

#[cfg(feature = "testing")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("dependencies.md")]
pub mod dependencies {}

#[doc = include_str!("changelog.md")]
pub mod changelog {}

/// Recipes that compile and run.
pub mod cookbook {
    #[doc = include_str!("cookbook/leader_only_job.md")]
    pub mod leader_only_job {}

    #[doc = include_str!("cookbook/periodic_job.md")]
    pub mod periodic_job {}

    #[doc = include_str!("cookbook/register_and_call.md")]
    pub mod register_and_call {}

    #[cfg(feature = "testing")]
    #[doc = include_str!("cookbook/write_a_backend.md")]
    pub mod write_a_backend {}

    #[doc = include_str!("cookbook/test_your_election.md")]
    pub mod test_your_election {}
}
