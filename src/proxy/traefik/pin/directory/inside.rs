//! A watched directory that only Traefik's container can reach: a shell in it does the rename.

use std::time::Duration;

use super::STAGE;
use crate::{
    docker::engine::{Engine, ExecCommand},
    error::{Error, Result},
    proxy::traefik::config::TraefikContainer,
};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether all is there that the others need.
const CHECK: &str = r#"
d=$(realpath "$1") && [ -d "$d" ] || { echo "there is no such directory"; exit 3; }
[ -w "$d" ] || { echo "it cannot be written to"; exit 4; }
for tool in head stat mv grep dirname; do command -v "$tool" >/dev/null || { echo "no $tool"; exit 5; }; done
"#;

/// Stages beside the directory, or below it where that would be another mount, and renames; see `here` for the rest.
/// The length is given, since the end of the input may not come; or too soon, where the writer dies.
const WRITE: &str = r#"
set -e
d=$(realpath "$1")
s=$(dirname "$d")
if grep -qF " $d " /proc/self/mountinfo || [ ! -w "$s" ]; then s="$d/$4"; mkdir -p "$s"; fi
t="$s/.$2.tmp"
rm -f "$t"
head -c "$3" >"$t"
[ "$(stat -c %s "$t")" = "$3" ] || { rm -f "$t"; echo "only a part of it came through"; exit 6; }
chmod "$(printf %o $((0$(stat -c %a "$d") & 0666)))" "$t"
chown "$(stat -c %u:%g "$d")" "$t" 2>/dev/null || true
mv -f "$t" "$d/$2"
"#;

const REMOVE: &str = r#"
rm -f "$1/$2" && { rmdir "$1/$3" 2>/dev/null || true; }
"#;

const TAKE_OUT: &str = r#"
set -e
cd "$1"
case "$4" in keep) mv -f "$3/$2" "$2" ;; *) rm -f "$3/$2" ;; esac
rmdir "$3" 2>/dev/null || true
"#;

/// The container's shell, and the user that runs it.
pub struct Inside {
    user: Option<String>,
}

impl Inside {
    /// The container's own user where that will do, else root.
    pub async fn find(
        engine: &Engine,
        traefik: &TraefikContainer,
        path: &str,
        read_only: bool,
    ) -> Result<Self> {
        let name = &traefik.name;
        if read_only {
            return Err(Error::refused(format!(
                "the directory {path} of Traefik ({name}) is mounted read-only, and cannot be written to from here"
            ))
            .hint("mount it without :ro, or run rollout where the directory is"));
        }
        let mut why = String::new();
        for user in [None, Some("0".to_owned())] {
            let inside = Self { user };
            match inside.run(engine, &traefik.id, CHECK, &[path], &[]).await {
                Ok(()) => return Ok(inside),
                Err(error) => why = error,
            }
        }
        Err(Error::refused(format!(
            "nothing can be put into the directory {path} of Traefik ({name}): {why}"
        ))
        .hint("mount a directory of this machine there, which rollout then writes to directly"))
    }

    pub async fn write(
        &self,
        engine: &Engine,
        container: &str,
        path: &str,
        file: &str,
        text: &str,
    ) -> Result<(), String> {
        let length = text.len().to_string();
        let arguments = [path, file, &length, STAGE];
        self.run(engine, container, WRITE, &arguments, text.as_bytes())
            .await
    }

    pub async fn remove(
        &self,
        engine: &Engine,
        container: &str,
        path: &str,
        file: &str,
    ) -> Result<(), String> {
        self.run(engine, container, REMOVE, &[path, file, STAGE], &[])
            .await
    }

    pub async fn take_out(
        &self,
        engine: &Engine,
        container: &str,
        path: &str,
        (shared, file, keeps): (&str, &str, bool),
    ) -> Result<(), String> {
        let how = if keeps { "keep" } else { "drop" };
        let arguments = [path, file, shared, how];
        self.run(engine, container, TAKE_OUT, &arguments, &[]).await
    }

    async fn run(
        &self,
        engine: &Engine,
        container: &str,
        script: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<(), String> {
        let words = ["sh", "-c", script, "rollout"];
        let command = ExecCommand {
            command: words
                .iter()
                .chain(arguments)
                .map(|&word| word.to_owned())
                .collect(),
            user: self.user.clone(),
            ..ExecCommand::default()
        };
        let ended = engine
            .exec_with_input(container, &command, input, PATIENCE)
            .await
            .map_err(|error| error.message)?;
        match ended.code {
            0 => Ok(()),
            // 126 and 127: there is no shell at all.
            126 | 127 => Err("its image has no shell".to_owned()),
            _ => Err(ended
                .output
                .lines()
                .last()
                .unwrap_or("no reason given")
                .trim()
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, ExitStatus, Stdio},
    };

    use super::*;

    #[test]
    fn a_file_leaves_the_directory_that_it_shares_for_its_own_place_or_for_good() {
        let watched = tempfile::tempdir().unwrap();
        let path = |name: &str| watched.path().join(name);
        std::fs::create_dir(path(".both")).unwrap();
        for name in ["a.yml", "b.yml", ".both/a.yml", ".both/b.yml"] {
            std::fs::write(path(name), name).unwrap();
        }
        for (name, how) in [("a.yml", "keep"), ("b.yml", "drop")] {
            let mut shell = Command::new("sh");
            let shell = shell.args(["-c", TAKE_OUT, "rollout"]).arg(watched.path());
            assert!(shell.args([name, ".both", how]).status().unwrap().success());
        }
        let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(["a.yml", "b.yml"].map(text), [".both/a.yml", "b.yml"]);
        assert!(!path(".both").exists());
    }

    /// Runs the script here, as Traefik's container would; `text` is what comes of `length` bytes.
    fn write(directory: &str, text: &str, length: usize) -> ExitStatus {
        let arguments = [directory, "web.json", &length.to_string(), STAGE].map(str::to_owned);
        let mut shell = Command::new("sh")
            .args(["-c", WRITE, "rollout"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        shell.wait().unwrap()
    }

    #[test]
    fn what_comes_through_in_part_takes_nobodys_place() {
        let parent = tempfile::tempdir().unwrap();
        let watched = parent.path().join("dynamic");
        std::fs::create_dir(&watched).unwrap();
        let (path, file) = (watched.to_str().unwrap(), watched.join("web.json"));
        assert!(write(path, "{\"a\": 1}", 8).success());
        for part in ["", "{\"a\"", "{\"a\": 2"] {
            assert!(!write(path, part, 8).success(), "{part}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"a\": 1}");
        }
        let all = |path| std::fs::read_dir(path).unwrap().count();
        assert_eq!((all(parent.path()), all(watched.as_path())), (1, 1));
        assert!(write(path, "{\"a\": 2}", 8).success());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"a\": 2}");
    }
}
