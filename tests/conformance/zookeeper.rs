//! ZooKeeper as a subject: each version, alone and three together, open to all and with TLS, certificates and passwords.

use libtest_mimic::Trial;

use crate::real;
use crate::servers::zookeeper::Version::{V3_8, V3_9};

pub(crate) fn trials() -> Vec<Trial> {
    real::trials(
        &[(V3_8, 1, false), (V3_8, 3, true)],
        &[
            (V3_8, 1, true),
            (V3_8, 3, false),
            (V3_9, 1, false),
            (V3_9, 1, true),
            (V3_9, 3, false),
            (V3_9, 3, true),
        ],
    )
}
