//! Lists of numbers.

use confinement::{Code, Error, Result};

/// Reads libvirt's lists of processors or nodes: `0-3,^2,7`; `^` takes out what came before.
///
/// # Errors
/// `invalid argument: Failed to parse bitmap 'TEXT'`
pub fn parse_list(text: &str) -> Result<Vec<usize>> {
    let bad = || Error {
        code: Code::InvalidArgument,
        message: format!("invalid argument: Failed to parse bitmap '{text}'"),
    };
    // More than any host has, so that a mistake costs nothing.
    const MOST: usize = 1 << 14;
    let number =
        |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST).ok_or_else(bad);
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        if let Some(out) = part.strip_prefix('^') {
            set.remove(&number(out)?);
        } else if let Some((first, last)) = part.split_once('-') {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            set.extend(first..=last);
        } else {
            set.insert(number(part)?);
        }
    }
    if set.is_empty() { Err(bad()) } else { Ok(set.into_iter().collect()) }
}
