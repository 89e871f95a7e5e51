//! Tests of the command line as a whole.

use std::os::unix::ffi::OsStringExt as _;

use clap::ValueEnum as _;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    arbitrary::{bytes, mutated_text},
    check::Check,
    error::Outcome,
    model::Promote,
    settings::{OnUnfinished, Settings, SwitchBy},
};

fn resolved(flags: Partial) -> Settings {
    Settings::resolve([
        flags,
        Partial::default(),
        Partial::default(),
        Partial::default(),
    ])
}

fn parsed(line: &str) -> Command {
    let words = line.split_whitespace().map(OsString::from);
    let call = plugin::read(words.collect()).unwrap();
    parse(call.arguments).unwrap()
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn options_count_before_and_after_the_subcommand_and_without_one() {
    for line in [
        "rollout -f a.yaml web --timeout 5",
        "rollout -f a.yaml up web -t 5",
        "rollout up -t 5s web -f a.yaml",
    ] {
        let Command::Up(up) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(
            (up.services, up.target.files),
            (vec!["web".to_owned()], vec!["a.yaml".to_owned()]),
            "{line}"
        );
        assert_eq!(resolved(up.settings).timeout.as_secs(), 5, "{line}");
    }
}

#[test]
fn options_before_a_command_count_for_it() {
    let line = "rollout -f a.yaml --timeout 5 --drain-timeout 6 undo web --timeout 7 -f b.yaml";
    let Command::Undo(undo) = parsed(line) else {
        panic!("{line}")
    };
    let settings = resolved(undo.settings);
    assert_eq!(settings.timeout.as_secs(), 7);
    assert_eq!(settings.drain_timeout.as_secs(), 6);
    assert_eq!(undo.target.files, ["b.yaml"]);
    let Command::History(history) = parsed("rollout -p shop --timeout 5 history web") else {
        panic!()
    };
    assert_eq!(history.target.project_name.as_deref(), Some("shop"));
}

#[test]
fn a_dry_run_is_a_plan_of_the_same_services_and_settings() {
    for line in [
        "rollout web db --dry-run --scale 2",
        "rollout --dry-run up web db --scale 2",
        "rollout up --scale 2 --dry-run web db",
        "rollout --scale 2 plan web db",
    ] {
        let Command::Plan(plan) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(plan.services, ["web", "db"], "{line}");
        assert_eq!(resolved(plan.settings).scale, Some(2), "{line}");
    }
    let Command::Plan(plan) = parsed("rollout plan") else {
        panic!()
    };
    assert_eq!(plan.services, [""; 0]);
    for line in [
        "rollout --all --dry-run db",
        "rollout --all plan db",
        "rollout plan --all db",
    ] {
        let Command::Plan(plan) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!((plan.all, plan.services), (true, vec!["db".to_owned()]));
    }
}

#[test]
fn variables_count_before_and_after_the_command_and_keep_their_signs() {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let pairs = [("A", ""), ("B", "x=y")].map(pair);
    for line in [
        "rollout web --set A= --set B=x=y",
        "rollout --set A= up web --set B=x=y",
    ] {
        let Command::Up(up) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(up.set, pairs, "{line}");
    }
    for line in [
        "rollout --set A= plan --set B=x=y",
        "rollout --set A= up web --set B=x=y --dry-run",
    ] {
        let Command::Plan(plan) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(plan.set, pairs, "{line}");
    }
    for (line, message) in [
        (
            "rollout web --set 1TAG=v2",
            "--set: \"1TAG\" is not NAME=VALUE; write it as in --set VERSION=v1.11",
        ),
        (
            "rollout --set TAG=v2 undo web",
            "--set is an option of `rollout`, `rollout up` and `rollout plan` alone",
        ),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
}

#[test]
fn commands_that_roll_nothing_still_take_every_setting() {
    for command in ["status web", "doctor", "doctor web"] {
        parsed(&format!(
            "rollout {command} --timeout 5 --build --ignore labels"
        ));
    }
}

#[test]
fn an_undo_may_be_forced_and_a_plan_takes_what_a_rollout_takes() {
    let Command::Undo(undo) = parsed("rollout undo web --force --scale 2") else {
        panic!()
    };
    assert!(resolved(undo.settings).force);
    for line in [
        "rollout plan --parallel 2 --pull always web",
        "rollout web --on-failure rollback --build --timeout 5 --dry-run",
    ] {
        assert!(matches!(parsed(line), Command::Plan(_)), "{line}");
    }
}

#[test]
fn resume_and_abort_are_what_they_say_whatever_the_flags() {
    let Command::Resume(args) = parsed("rollout resume web --on-unfinished fail") else {
        panic!()
    };
    assert_eq!(resolved(args.settings).on_unfinished, OnUnfinished::Resume);
    let Command::Abort(args) = parsed("rollout --on-unfinished fail abort web") else {
        panic!()
    };
    assert_eq!(resolved(args.settings).on_unfinished, OnUnfinished::Abort);
    for (line, how) in [
        ("rollout promote web --on-unfinished fail", Promote::Next),
        (
            "rollout --on-unfinished abort promote web --full",
            Promote::Full,
        ),
    ] {
        let Command::Promote(args) = parsed(line) else {
            panic!()
        };
        assert_eq!(args.how(), how);
        let settings = resolved(args.settle.settings);
        assert_eq!(settings.on_unfinished, OnUnfinished::Resume);
    }
}

fn refused(line: &str) -> String {
    match parse(line.split_whitespace().map(OsString::from)) {
        Err(Stop::Refuse(error)) => error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_option_that_means_nothing_to_a_command_is_refused_by_name() {
    for (line, message) in [
        ("rollout --dry-run", "no service named"),
        (
            "rollout --dry-run undo web",
            "--dry-run is an option of `rollout SERVICE` and `rollout up` alone",
        ),
        (
            "rollout undo web --dry-run",
            "this command has no option --dry-run",
        ),
        (
            "rollout restart web --pull always",
            "rollout restart has no option --pull",
        ),
        (
            "rollout --force=false restart web",
            "rollout restart has no option --force",
        ),
        (
            "rollout undo web api --on-failure rollback",
            "rollout undo has no option --on-failure",
        ),
        (
            "rollout --report run.html status",
            "rollout status has no option --report",
        ),
        (
            "rollout plan web --report run.html",
            "rollout plan has no option --report",
        ),
        (
            "rollout --report run.html --dry-run web",
            "--dry-run moves nothing, so --report has nothing to show",
        ),
        (
            "rollout --build undo web",
            "rollout undo has no option --build",
        ),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_that_names_the_word() {
    for (line, message) in [
        (
            "rollout --drian-timeout 3 web",
            "unknown option --drian-timeout; did you mean --drain-timeout?",
        ),
        ("rollout web --frobnicate", "unknown option --frobnicate"),
        ("rollout -x web", "unknown option -x"),
        ("rollout", "no service named"),
        ("rollout up", "no service named"),
        ("rollout unlock", "<SERVICE> is missing"),
        ("rollout restart", "<SERVICE>... is missing"),
        ("rollout unlock web db", "\"db\" is one argument too many"),
        ("rollout relabel", "<CONTAINER> <KEY=VALUE>... is missing"),
        ("rollout relabel web-1", "<KEY=VALUE>... is missing"),
        (
            "rollout relabel web-1 a",
            "[KEY=VALUE]...: \"a\" is not key=value",
        ),
        (
            "rollout relabel web-1 a=b --clear",
            "[KEY=VALUE]... and --clear exclude each other",
        ),
        (
            "rollout web --strategy blue-gren",
            "--strategy: unknown value \"blue-gren\"; did you mean blue-green?",
        ),
        (
            "rollout web --strategy swap",
            "--strategy: unknown value \"swap\"; known are blue-green, rolling, canary, recreate",
        ),
        (
            "rollout web --scale 0",
            "--scale: \"0\" is not a number from 1 on",
        ),
        ("rollout web --file", "--file needs a value"),
        (
            "rollout agent --listen 8090",
            "--listen: \"8090\" is not an address with a port; write ADDRESS:PORT, such as 127.0.0.1:8090",
        ),
        (
            "rollout web -H x --context y",
            "--host and --context exclude each other",
        ),
        (
            "rollout web socket-proxy",
            "service web stands before the name of a command",
        ),
        (
            "rollout web --remove-orphans",
            "--remove-orphans needs --all",
        ),
        (
            "rollout --all undo web",
            "--all and --remove-orphans are options of `rollout` and `rollout up` alone",
        ),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
}

#[test]
fn a_wrong_command_line_names_the_page_of_its_command() {
    for (line, page) in [
        ("rollout web --frobnicate", "rollout"),
        ("rollout agent --listen 8090", "rollout agent"),
        ("rollout -p shop undo web --frobnicate", "rollout undo"),
        ("rollout unlock", "rollout unlock"),
    ] {
        let words = line.split_whitespace().map(OsString::from);
        let Err(Stop::Refuse(error)) = parse(words) else {
            panic!("{line}")
        };
        let hint = format!("{page} --help lists the options");
        assert_eq!(error.hint.as_deref(), Some(hint.as_str()), "{line}");
    }
}

#[test]
fn a_check_that_cannot_be_ignored_is_refused_with_the_list_of_those_that_can() {
    let other = Check::value_variants().iter();
    let other = other.filter(|own| !Check::IGNORABLE.contains(own));
    let other = other.map(ToString::to_string);
    for word in other.chain(["everything", "lables"].map(str::to_owned)) {
        let line = ["rollout", "web", "--ignore", &word];
        let Err(Stop::Refuse(error)) = parse(line.map(OsString::from)) else {
            panic!("{word}")
        };
        let text = format!("{} {}", error.message, error.hint.unwrap_or_default());
        assert!(text.contains("known are traefik, api, switch"), "{text}");
    }
}

#[test]
fn every_check_that_can_be_ignored_is_taken() {
    for check in Check::IGNORABLE {
        let Command::Up(up) = parsed(&format!("rollout web --ignore {check}")) else {
            panic!("{check}")
        };
        assert_eq!(resolved(up.settings).ignore, [check]);
    }
}

#[test]
fn the_value_of_an_option_may_be_called_as_a_command_is() {
    for line in [
        "rollout --switch relabel web",
        "rollout up --switch=relabel web",
    ] {
        let Command::Up(up) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(up.services, ["web"], "{line}");
        assert_eq!(resolved(up.settings).switch, SwitchBy::Relabel, "{line}");
    }
}

#[test]
fn a_service_may_be_called_as_a_command_is() {
    assert!(matches!(
        parsed("rollout socket-proxy"),
        Command::SocketProxy(_)
    ));
    let Command::Up(up) = parsed("rollout up socket-proxy unlock") else {
        panic!()
    };
    assert_eq!(up.services, ["socket-proxy", "unlock"]);
}

#[test]
fn all_services_are_chosen_before_and_after_the_command_and_without_one() {
    for line in [
        "rollout --all --remove-orphans",
        "rollout up --all --remove-orphans",
        "rollout --all up --remove-orphans",
    ] {
        let Command::Up(up) = parsed(line) else {
            panic!("{line}")
        };
        assert!(
            up.all && up.remove_orphans && up.services.is_empty(),
            "{line}"
        );
    }
}

#[test]
fn docker_calls_the_plugin_with_its_name_after_dockers_own_options() {
    let Command::Up(up) = parsed("/x/docker-rollout --context far rollout -w 7 web db") else {
        panic!()
    };
    assert_eq!(up.services, ["web", "db"]);
    let help = ["docker rollout", "--help"];
    let Err(Stop::Print(help)) = parse(help.map(OsString::from)) else {
        panic!()
    };
    let usage = "Usage: docker rollout [OPTIONS]";
    assert!(help.to_string().contains(usage), "{help}");
    assert_eq!(up.target.context.as_deref(), Some("far"));
    assert!(matches!(
        parsed("/x/docker-rollout docker-cli-plugin-metadata"),
        Command::PluginMetadata
    ));
}

fn any_words() -> impl Strategy<Value = Vec<OsString>> {
    let line = prop_oneof![
        mutated_text(
            "docker-rollout -H tcp://far rollout --file a.yaml -p shop web db --timeout 5s --scale=3"
        ),
        mutated_text("rollout relabel web-1 a=b --clear"),
        mutated_text("rollout socket-proxy --listen 0.0.0.0:2375 --only a=b"),
        mutated_text("rollout namespace watch 80=http1"),
        mutated_text("rollout history web 1 2 --output json"),
        mutated_text("rollout up --strategy recreate --ignore api,switch --bake 1m web"),
    ];
    let without_breaks = |mut raw: Vec<u8>| {
        raw.retain(|byte| *byte != b'\n');
        OsString::from_vec(raw)
    };
    let raw = vec(bytes().prop_map(without_breaks), 0..2);
    (line, raw).prop_map(|(line, raw)| {
        line.split([' ', '\n'])
            .map(OsString::from)
            .chain(raw)
            .collect()
    })
}

proptest! {
    #[test]
    fn any_arguments_are_an_action_or_help_or_a_refusal_of_one_line(words in any_words()) {
        output_of(&words);
        let Ok(call) = plugin::read(words) else {
            return Ok(());
        };
        match parse(call.arguments) {
            Ok(_) => {}
            Err(Stop::Print(help)) => prop_assert!(!help.to_string().is_empty()),
            Err(Stop::Refuse(error)) => {
                prop_assert_eq!(error.outcome, Outcome::Refused);
                prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error.message);
                prop_assert!(error.hint.is_some());
            }
        }
    }
}
