//! Who we are to the servers, and how we say so.

use zookeeper_client::{Client, Error as Zk, SaslOptions};

use crate::kv::{Error, Result};

/// How a user is made known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// By ZooKeeper's scheme `digest`: servers believe everybody.
    #[default]
    Digest,
    /// By SASL: servers know the passwords, and refuse who has another.
    Sasl,
}

/// A user's credentials in the form that the client takes them.
pub(super) enum User {
    Digest(String),
    Sasl(SaslOptions),
}

impl User {
    /// Refuses names that the servers would read otherwise, by name; passwords are never shown.
    pub(super) fn new(name: String, password: String, proof: Proof) -> Result<Self> {
        let unfit = match proof {
            Proof::Digest => name.contains(':'),
            // What the client does not escape, and what it and the servers encode differently.
            Proof::Sasl => !is_plain(&name) || name.contains(['"', '\\', ':']),
        };
        if name.is_empty() || unfit {
            return Err(Error::invalid(format!("{name:?} is no name of a user")));
        }
        match proof {
            Proof::Digest => Ok(Self::Digest(format!("{name}:{password}"))),
            Proof::Sasl if !is_plain(&password) => {
                Err(Error::invalid(format!("the password of {name:?} is not ASCII, which SASL needs here")))
            }
            Proof::Sasl => Ok(Self::Sasl(SaslOptions::digest_md5(name, password).into())),
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|sign| sign == ' ' || sign.is_ascii_graphic())
}

/// Whether the server knows us by SASL. One without SASL takes who offers it as it takes anybody, and says nothing.
pub(super) async fn is_known(client: &Client) -> std::result::Result<bool, Zk> {
    match client.list_auth_users().await {
        Ok(users) => Ok(users.iter().any(|user| user.scheme() == "sasl")),
        // Nobody could be asked before version 3.7.
        Err(Zk::Unimplemented) => Ok(true),
        Err(error) => Err(error),
    }
}
