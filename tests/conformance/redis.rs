//! Redis as a subject: one server, open to all and with TLS, certificates and users; and a cluster, while nothing fails over.

use libtest_mimic::Trial;

use crate::real;
use crate::servers::redis::Version::{V7_0, V8_0, Valkey8_1};

pub(crate) fn trials() -> Vec<Trial> {
    real::trials(
        &[(V7_0, 1, false), (V7_0, 1, true), (V7_0, 3, false)],
        &[
            (V7_0, 3, true),
            (V8_0, 1, false),
            (V8_0, 1, true),
            (V8_0, 3, true),
            (Valkey8_1, 1, false),
            (Valkey8_1, 1, true),
            (Valkey8_1, 3, true),
        ],
    )
}
