//! `longshore key NAME`: makes an api key.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use sha2::{Digest as _, Sha256};

use super::{CliError, output};
use crate::config::{Rate, keys};

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Whose key it is; the name stands in the log and in `queue.fair_key = "api-key"`.
    #[arg(value_parser = name)]
    name: String,
    /// How often its holder may ask, such as 10/s, 600/m or 1000/h [default: as often as it likes].
    #[arg(long, value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// How many requests its holder may have waiting or at work at once [default: any number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,
    /// Appends the line to this file, the one of `proxy.api_keys_file`, and prints nothing but the key.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    keys::check_name(text).map(|()| text.to_owned())
}

pub(super) fn key(args: &KeyArgs) -> Result<(), CliError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| CliError::Failed(format!("no randomness: {error}")))?;
    let secret = format!("ls_{}", URL_SAFE_NO_PAD.encode(bytes));
    let line = line(args, &secret);
    match &args.file {
        Some(file) => {
            append(file, &line)
                .map_err(|error| CliError::Failed(format!("cannot write to {}: {error}", file.display())))?;
            output::line(&secret)?;
            output::note("this is the key, and the only time that it is shown");
        }
        None => {
            output::line(format!("key, shown this once:     {secret}"))?;
            output::line(format!("line for api_keys_file:   {line}"))?;
        }
    }
    Ok(())
}

fn line(args: &KeyArgs, secret: &str) -> String {
    let hex: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let rate = args.rate.map(|rate| format!(" rate={rate}")).unwrap_or_default();
    let concurrent = args.concurrent.map(|count| format!(" concurrent={count}")).unwrap_or_default();
    format!("{}:{hex}{rate}{concurrent}", args.name)
}

/// In one write, so that a proxy that reads the file meanwhile sees all of the line or nothing.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let gap = if ends_a_line(&mut file)? { "" } else { "\n" };
    file.write_all(format!("{gap}{line}\n").as_bytes())
}

fn ends_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_appended_is_a_line_of_its_own_that_the_proxy_reads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.txt");
        let rate = Some(Rate::parse("600/m").unwrap());
        let args = |name: &str| KeyArgs { name: name.into(), rate, concurrent: Some(3), file: None };
        append(&file, &line(&args("ann"), "secret")).unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, written.trim_end()).unwrap();
        append(&file, &line(&args("bob"), "other")).unwrap();
        let keys = keys::load(&file).unwrap();
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!((keys[1].rate, keys[1].concurrent), (rate, 3));
        let digest: [u8; 32] = Sha256::digest("other").into();
        assert_eq!(keys[1].digest, digest);
    }
}
