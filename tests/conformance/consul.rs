//! Consul as a subject: alone and three together, open to all and with TLS, certificates and tokens.

use libtest_mimic::Trial;

use crate::real;
use crate::servers::consul::Version::V1_8;

pub(crate) fn trials() -> Vec<Trial> {
    real::trials(&[(V1_8, 1, false), (V1_8, 3, true)], &[(V1_8, 1, true), (V1_8, 3, false)])
}
