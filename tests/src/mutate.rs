//! Requests with mistakes in them: valid ones, changed in a few places that a seed chooses.

use fastrand::Rng;

/// What framing can be said with, and what it is broken with.
const BYTES: &[u8] = b"\0\t\n\x0b\x0c\r !\"#'(),-./0123456789:;<=>?@AFX[]^_`acdehknuxz{|}~\x7f\x80\xa0\xff";

/// Lines that may stand anywhere in a head.
const LINES: &[&str] = &[
    "Content-Length: 0\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 40\r\n",
    "Content-Length: 3, 3\r\n",
    "Content-Length: +3\r\n",
    "Content-Length : 3\r\n",
    "Content_Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: content-length, transfer-encoding\r\n",
    "Host: other\r\n",
    "X: y\r\n folded\r\n",
    " leading\r\n",
    "no colon\r\n",
    "X: y\rz\r\n",
    "\r\n",
];

/// What a line may end in.
const ENDS: &[&str] = &["\n", "\r", "\r\r\n", "\n\r\n", "\r\n\r\n", "\r\n ", ""];

/// Changes `bytes` in one to four places.
pub fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..=4) {
        if bytes.is_empty() {
            return;
        }
        once(bytes, rng);
    }
}

fn once(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..bytes.len());
    let end = (at + rng.usize(1..=12)).min(bytes.len());
    match rng.u8(..12) {
        0 => bytes[at] = BYTES[rng.usize(..BYTES.len())],
        1 => bytes.insert(at, BYTES[rng.usize(..BYTES.len())]),
        2 => bytes[at] = rng.u8(..),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, part);
        }
        5 => bytes.truncate(at),
        6 => change_case(&mut bytes[at..end]),
        7 => change_digit(bytes, rng),
        8 | 9 => {
            let line = LINES[rng.usize(..LINES.len())].bytes();
            let start = line_start(bytes, at);
            bytes.splice(start..start, line);
        }
        10 => {
            let (start, next) = (line_start(bytes, at), line_start(bytes, end.max(at + 1)));
            let line = bytes[start..next.max(start)].to_vec();
            let to = line_start(bytes, rng.usize(..bytes.len()));
            bytes.splice(to..to, line);
        }
        _ => {
            let ends: Vec<usize> =
                bytes.windows(2).enumerate().filter(|(_, two)| *two == b"\r\n").map(|(at, _)| at).collect();
            if let Some(at) = rng.choice(ends) {
                bytes.splice(at..at + 2, ENDS[rng.usize(..ENDS.len())].bytes());
            }
        }
    }
}

fn change_case(part: &mut [u8]) {
    for byte in part {
        if byte.is_ascii_alphabetic() {
            *byte ^= 0x20;
        }
    }
}

/// Makes a length another one.
fn change_digit(bytes: &mut [u8], rng: &mut Rng) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    if let Some(at) = rng.choice(digits) {
        bytes[at] = b"0123456789abcdefg"[rng.usize(..17)];
    }
}

/// Where the line begins that `at` is in.
fn line_start(bytes: &[u8], at: usize) -> usize {
    let at = at.min(bytes.len());
    bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_mistakes_and_another_one_others() {
        let mutated = |seed| {
            let mut bytes = b"POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\n\r\nabc".to_vec();
            mutate(&mut bytes, &mut Rng::with_seed(seed));
            bytes
        };
        let all: std::collections::BTreeSet<Vec<u8>> = (0..500).map(mutated).collect();
        assert!(all.len() > 300, "{}", all.len());
        assert_eq!(mutated(7), mutated(7));
    }
}
