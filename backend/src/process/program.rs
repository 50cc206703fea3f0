//! Which file a command names.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Spec, StartError};

/// A program that is there, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// The command of a specification:
///
/// 1. An absolute path is the program.
/// 2. A relative path with a `/` is looked for in the `build` folder, then in the working directory.
/// 3. A name is looked for in `folders`, in the `build` folder and its `bin`, then in `PATH`.
pub(super) fn command(spec: &Spec, folders: &[PathBuf]) -> Result<Command, StartError> {
    let Some((name, arguments)) = spec.command.as_deref().and_then(<[String]>::split_first) else {
        return Err(StartError::Futile(format!(
            "the service of image {} has no `command`; the process backend runs programs, not images: set \
             `command = [\"PROGRAM\", …]` or start a Docker engine",
            spec.image
        )));
    };
    let places = places(name, spec, folders);
    let Some(program) = places.iter().find(|path| is_program(path)) else {
        return Err(missing(name, spec, folders));
    };
    let program = std::path::absolute(program).unwrap_or_else(|_| program.clone());
    Ok(Command { program, arguments: arguments.to_vec() })
}

fn places(name: &str, spec: &Spec, folders: &[PathBuf]) -> Vec<PathBuf> {
    let build = spec.build.as_deref();
    if name.contains('/') {
        // Joining an absolute path gives that path.
        return build.into_iter().chain([Path::new("")]).map(|folder| folder.join(name)).collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = build.into_iter().flat_map(|folder| [folder.to_owned(), folder.join("bin")]);
    folders
        .iter()
        .cloned()
        .chain(built)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .collect()
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn missing(name: &str, spec: &Spec, folders: &[PathBuf]) -> StartError {
    let build = spec.build.iter().map(|folder| folder.display().to_string());
    let own = folders.iter().filter(|_| !name.contains('/')).map(|folder| folder.display().to_string());
    let last = if name.contains('/') { "the working directory" } else { "PATH" };
    let tried: Vec<String> = own.chain(build).chain([last.to_owned()]).collect();
    StartError::Futile(format!(
        "the program {name} is not to be found or not executable (looked in {}); build or install it, or start a \
         Docker engine",
        tried.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::tests::plain;

    fn with(command: &[&str], build: Option<&Path>) -> Spec {
        let command = Some(command.iter().map(|&word| word.to_owned()).collect());
        Spec { command, build: build.map(Path::to_owned), ..plain() }
    }

    fn program_in(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn own_folders_come_before_the_build_folder_and_that_before_the_path() {
        let (own, build) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spec = with(&["sh", "-c", "x"], Some(build.path()));
        let folders = [own.path().to_owned()];
        let found = || command(&spec, &folders).unwrap();
        assert!(found().program.ends_with("bin/sh"));
        let built = program_in(build.path(), "bin/sh");
        assert_eq!(found().program, built);
        let ours = program_in(own.path(), "sh");
        assert_eq!(found(), Command { program: ours, arguments: vec!["-c".to_owned(), "x".to_owned()] });
    }

    #[test]
    fn a_relative_path_is_found_in_the_build_folder() {
        let build = tempfile::tempdir().unwrap();
        let program = program_in(build.path(), "scripts/serve");
        assert_eq!(command(&with(&["scripts/serve"], Some(build.path())), &[]).unwrap().program, program);
        assert_eq!(
            command(&with(&["/bin/sh"], Some(build.path())), &[]).unwrap().program,
            Path::new("/bin/sh")
        );
    }

    #[test]
    fn a_file_that_is_no_program_is_passed_over() {
        let build = tempfile::tempdir().unwrap();
        std::fs::write(build.path().join("serve"), "text").unwrap();
        let error = command(&with(&["serve"], Some(build.path())), &[]).unwrap_err();
        assert!(matches!(error, StartError::Futile(text) if text.contains("serve") && text.contains("PATH")));
    }

    #[test]
    fn a_service_without_a_command_is_told_what_to_do() {
        let error = command(&plain(), &[]).unwrap_err();
        assert!(matches!(error, StartError::Futile(text) if text.contains("`command`")));
        assert!(matches!(command(&with(&[], None), &[]), Err(StartError::Futile(_))));
    }
}
