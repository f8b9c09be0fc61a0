//! What is promised, and what is not: read from the page that says so, so that it is said once.

use quorate::kv::{Delivery, FenceScope, Limits};

const PAGE: &str = include_str!("../../../../docs/guarantees.md");

/// The rows of a table of the page, without its head.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(plain).collect()).collect()
}

/// Name, promise, and what it needs.
pub(super) fn promised() -> Vec<Vec<String>> {
    rows("What is promised")
}

/// The first paragraph of what no lock can promise.
pub(super) fn not_promised() -> String {
    let (_, section) = PAGE.split_once("## What a lock cannot promise\n\n").unwrap_or_default();
    let paragraph = section.split("\n\n").next().unwrap_or_default();
    plain(paragraph.trim_end_matches(" So:")).replace('\n', " ")
}

/// What the page says of this store in particular, each with what it is about.
pub(super) fn in_particular(backend: &str) -> Vec<[String; 2]> {
    let about = ["sessions end early", "sessions end late", "survives", "not safe when"];
    let row = rows("Per store").into_iter().find(|row| row.first().is_some_and(|name| name == backend));
    let cells = row.into_iter().flatten().skip(1);
    about.map(str::to_owned).into_iter().zip(cells).map(<[String; 2]>::from).collect()
}

/// What follows from the limits.
pub(super) fn derived(limits: &Limits) -> Vec<[String; 2]> {
    let fence = match limits.fence {
        FenceScope::Store => "any two can be compared",
        FenceScope::Queue => "those of one lock, election or key can be compared",
    };
    let delivery = match limits.delivery {
        Delivery::Pushed => "pushed by the store".to_owned(),
        Delivery::Polled { every } => format!("looked for every {every:?}"),
    };
    let values = if limits.coalesces {
        "those soon overwritten may be left out, the last never"
    } else {
        "every one is told"
    };
    [("fences", fence.to_owned()), ("changes", delivery), ("watched values", values.to_owned())]
        .map(|(what, how)| [what.to_owned(), how])
        .to_vec()
}

/// The text without its markup: links, emphasis, code.
fn plain(text: &str) -> String {
    let mut text = text.trim().replace("**", "").replace('`', "");
    while let Some((before, rest)) = text.split_once('[') {
        let Some((shown, rest)) = rest.split_once("](") else { break };
        let Some((_, after)) = rest.split_once(')') else { break };
        text = format!("{before}{shown}{after}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_read_as_it_is_written() {
        let promised = promised();
        assert!(promised.len() >= 9 && promised.iter().all(|row| row.len() == 3), "{promised:?}");
        assert_eq!(promised[0][0], "record");
        assert!(promised[0][2].starts_with("a store that keeps the contract"), "{promised:?}");
        assert!(not_promised().starts_with("No library can promise") && not_promised().ends_with('.'));
        for backend in ["memory", "embedded"] {
            assert_eq!(in_particular(backend).len(), 4, "{backend}");
        }
        assert_eq!(in_particular("unheard-of"), Vec::<[String; 2]>::new());
        let all = format!("{promised:?} {} {:?}", not_promised(), in_particular("embedded"));
        for markup in ["](", "**", "`", "|"] {
            assert!(!all.contains(markup), "{markup} in {all}");
        }
    }

    #[test]
    fn limits_are_put_into_words() {
        let mut limits = Limits::new("x");
        let pushed = derived(&limits);
        limits.delivery = Delivery::Polled { every: std::time::Duration::from_secs(2) };
        limits.coalesces = true;
        limits.fence = FenceScope::Queue;
        let polled = derived(&limits);
        assert!(pushed.iter().zip(&polled).all(|(one, other)| one[0] == other[0] && one[1] != other[1]));
        assert!(polled[1][1].contains("2s"));
    }
}
