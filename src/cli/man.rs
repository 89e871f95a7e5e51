//! `rollout write-man-pages DIR`: a man page of each command (section 1) and each topic (section 7).

use std::{fs, io, path::Path};

use clap_mangen::{
    generate_to,
    roff::{Roff, roman},
};

use super::{
    command,
    help::{TOPICS, Topic},
};

pub fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    generate_to(command(), directory)?;
    for topic in &TOPICS {
        let file = directory.join(format!("rollout-{}.7", topic.name));
        fs::write(file, page(topic))?;
    }
    Ok(())
}

fn page(topic: &Topic) -> String {
    let name = format!("rollout-{}", topic.name);
    let mut page = Roff::new();
    page.control("TH", [name.as_str(), "7"])
        .control("SH", ["NAME"])
        .text([roman(format!("{name} - {}", topic.about))])
        .control("SH", ["DESCRIPTION"])
        // The text has its own line breaks.
        .control("nf", []);
    // The title is the name above.
    for line in topic.text.lines().skip(2) {
        match line.strip_prefix("## ") {
            Some(section) => page
                .control("fi", [])
                .control("SH", [section])
                .control("nf", []),
            None => page.text([roman(line)]),
        };
    }
    page.control("fi", []).render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_topics_have_a_page_and_hidden_commands_have_none() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let has = |name: &str| directory.path().join(name).exists();
        assert!(has("rollout.1") && has("rollout-undo.1") && has("rollout-settings.7"));
        assert!(!has("rollout-namespace.1") && !has("rollout-man.1"));
        let page = fs::read_to_string(directory.path().join("rollout-events.7")).unwrap();
        for word in [
            ".TH rollout",
            "NAME",
            ".SH \"Other commands\"",
            "nothing_to_do",
        ] {
            assert!(page.contains(word), "{page}");
        }
    }
}
