//! A list that never changes.

use std::net::Ipv6Addr;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::discovery::{Instance, Provider, Update};
use crate::kv::{Error, Result};

/// The most addresses one list makes.
const MOST: usize = 65_536;

/// A fixed list of nodes: addresses separated by commas, with ranges.
///
/// A range `[first:last]` stands for each number in it, both included; where `first` begins with a zero, all are
/// padded to its width. A pattern can have several. An IPv6 address in brackets is itself. The id of each instance is
/// its address.
///
/// ```
/// use quorate::discovery::providers::Nodes;
///
/// let nodes = Nodes::new("docker", "10.0.0.[1:3]:2375, host[09:10].example:80, [::1]:80")?;
/// let addresses: Vec<_> = nodes.instances().iter().map(|instance| &*instance.address).collect();
/// assert_eq!(addresses, [
///     "10.0.0.1:2375", "10.0.0.2:2375", "10.0.0.3:2375", "host09.example:80", "host10.example:80", "[::1]:80",
/// ]);
/// assert!(Nodes::new("docker", "host[9:1]").is_err());
/// # Ok::<(), quorate::kv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Nodes {
    instances: Vec<Instance>,
}

impl Nodes {
    /// The nodes of this list, as instances of `service`. Refuses, by name, a range that is no range or runs backwards,
    /// an empty address, one that appears twice, and more than 65,536 in all.
    pub fn new(service: &str, list: &str) -> Result<Self> {
        let mut addresses = Vec::new();
        for pattern in list.split(',').map(str::trim) {
            if pattern.is_empty() {
                return Err(Error::invalid(format!("the list of nodes {list:?} contains an empty address")));
            }
            addresses.extend(expand(pattern, MOST - addresses.len())?);
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = addresses.iter().find(|address| !seen.insert(address.as_str())) {
            return Err(Error::invalid(format!("the node {twice:?} appears twice")));
        }
        let instance = |address: String| Instance::new(service, address.clone(), address);
        Ok(Self { instances: addresses.into_iter().map(instance).collect() })
    }

    /// The instances, in the order of the list.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }
}

impl Provider for Nodes {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        let all = Update::Reset(self.instances.clone());
        stream::once(async { Ok(all) }).chain(stream::pending()).boxed()
    }
}

/// Every address a pattern stands for, at most `most`.
fn expand(pattern: &str, most: usize) -> Result<Vec<String>> {
    let mut made = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        let unclosed = || Error::invalid(format!("node {pattern:?}: the '[' is never closed"));
        let (range, after) = after.split_once(']').ok_or_else(unclosed)?;
        check_plain(pattern, before)?;
        made = append(&made, &[before.to_owned()]);
        made = if range.parse::<Ipv6Addr>().is_ok() {
            append(&made, &[format!("[{range}]")])
        } else {
            let range = Range::parse(pattern, range)?;
            if range.len().saturating_mul(made.len() as u64) > most as u64 {
                return Err(too_many(pattern));
            }
            append(&made, &range.numbers())
        };
        rest = after;
    }
    check_plain(pattern, rest)?;
    made = append(&made, &[rest.to_owned()]);
    if made.len() > most { Err(too_many(pattern)) } else { Ok(made) }
}

fn too_many(pattern: &str) -> Error {
    Error::invalid(format!("node {pattern:?}: the list has more than {MOST} nodes"))
}

fn check_plain(pattern: &str, text: &str) -> Result<()> {
    if text.contains(']') {
        return Err(Error::invalid(format!("node {pattern:?}: the ']' was never opened")));
    }
    Ok(())
}

fn append(starts: &[String], ends: &[String]) -> Vec<String> {
    starts.iter().flat_map(|start| ends.iter().map(move |end| format!("{start}{end}"))).collect()
}

struct Range {
    first: u64,
    last: u64,
    width: usize,
}

impl Range {
    fn parse(pattern: &str, text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("node {pattern:?}: the range [{text}] {why}"));
        let (first, last) = text.split_once(':').ok_or_else(|| refuse("has no ':'"))?;
        let number = |digits: &str| {
            let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = all_digits.then(|| digits.parse::<u64>().ok()).flatten();
            parsed.ok_or_else(|| refuse("is not made of two numbers"))
        };
        let width = if first.starts_with('0') { first.len() } else { 0 };
        let range = Self { first: number(first)?, last: number(last)?, width };
        if range.first > range.last {
            return Err(refuse("runs backwards"));
        }
        Ok(range)
    }

    fn len(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    fn numbers(&self) -> Vec<String> {
        let width = self.width;
        (self.first..=self.last).map(|number| format!("{number:0width$}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::ErrorKind;

    fn addresses(list: &str) -> Vec<String> {
        let nodes = Nodes::new("s", list).unwrap();
        nodes.instances().iter().map(|instance| instance.address.clone()).collect()
    }

    #[test]
    fn ranges_multiply_and_pad() {
        assert_eq!(addresses("a[1:2]b[8:10]"), ["a1b8", "a1b9", "a1b10", "a2b8", "a2b9", "a2b10"]);
        assert_eq!(addresses("h[08:11]"), ["h08", "h09", "h10", "h11"]);
        assert_eq!(addresses("h[098:101]"), ["h098", "h099", "h100", "h101"]);
        assert_eq!(addresses("[fe80::1]:[1:2],x:1"), ["[fe80::1]:1", "[fe80::1]:2", "x:1"]);
        assert_eq!(addresses("h[0:1]"), ["h0", "h1"]);
        assert_eq!(addresses("h[1:65536]").len(), MOST);
    }

    #[test]
    fn what_is_no_list_is_refused_by_name() {
        let cases = [
            ("h[9:1]", "runs backwards"),
            ("h[1:2", "never closed"),
            ("h1:2]", "never opened"),
            ("h[1:x]", "two numbers"),
            ("h[:2]", "two numbers"),
            ("h[+1:2]", "two numbers"),
            ("h[1]", "no ':'"),
            ("h[1:99999999999999999999999]", "two numbers"),
            ("h[1:65537]", "more than"),
            ("h[0:18446744073709551615]", "more than"),
            ("[1:256].[1:256].[1:2]", "more than"),
            ("h[1:65536],x", "more than"),
            ("a,,b", "empty address"),
            ("", "empty address"),
            ("a[1:3],a2", "appears twice"),
        ];
        for (list, why) in cases {
            let error = Nodes::new("s", list).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(why), "{list:?}: {error}");
        }
    }
}
