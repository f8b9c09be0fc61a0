//! etcd as a subject: each version, alone and three together, open to all and with TLS, certificates and passwords.

use libtest_mimic::Trial;

use crate::real;
use crate::servers::etcd::Version::{Sid, V3_4, V3_5};

pub(crate) fn trials() -> Vec<Trial> {
    real::trials(
        &[(V3_4, 1, false), (V3_5, 3, true)],
        &[
            (V3_4, 1, true),
            (V3_4, 3, false),
            (V3_4, 3, true),
            (V3_5, 1, false),
            (V3_5, 1, true),
            (V3_5, 3, false),
            (Sid, 1, false),
            (Sid, 1, true),
            (Sid, 3, false),
            (Sid, 3, true),
        ],
    )
}
