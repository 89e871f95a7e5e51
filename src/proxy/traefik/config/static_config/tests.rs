//! Static configurations as people write them, in each of Traefik's three places.

use proptest::prelude::*;

use super::*;
use crate::arbitrary::mutated_text;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn by_command(line: &str) -> StaticConfig {
    read(Given {
        arguments: &words(line),
        ..Given::default()
    })
    .unwrap()
}

fn by_file(path: &str, text: &str) -> StaticConfig {
    read(Given {
        file: Some((path, text)),
        ..Given::default()
    })
    .unwrap()
}

fn by_environment(line: &str) -> StaticConfig {
    read(Given {
        environment: &words(line),
        ..Given::default()
    })
    .unwrap()
}

const YAML: &str = "
providers:
  providersThrottleDuration: 500ms
  docker:
    exposedByDefault: false
    constraints: Label(`a`,`b`)
    network: front
    useBindPortIP: true
  file: {directory: /dynamic}
entryPoints:
  web:
    address: :80
    asDefault: true
  websecure:
    address: 0.0.0.0:443
    http: {tls: {}}
  dns:
    address: :53/udp
api:
  insecure: true
serversTransport: {insecureSkipVerify: true}
";

const TOML: &str = "
[providers]
providersThrottleDuration = \"500ms\"
[providers.docker]
exposedByDefault = false
constraints = \"Label(`a`,`b`)\"
network = \"front\"
useBindPortIP = true
allowEmptyServices = true
[providers.file]
directory = \"/dynamic\"
[entryPoints.web]
address = \":80\"
asDefault = true
[entryPoints.websecure]
address = \"0.0.0.0:443\"
[entryPoints.websecure.http.tls]
[entryPoints.dns]
address = \":53/udp\"
[api]
insecure = true
[serversTransport]
insecureSkipVerify = true
";

const COMMAND: &str = "--providers.providersThrottleDuration=500ms --providers.docker \
    --providers.docker.exposedbydefault=false -providers.docker.constraints Label(`a`,`b`) \
    --providers.docker.network=front --providers.docker.useBindPortIP \
    --providers.file.directory=/dynamic --entrypoints.web.address=:80 --entryPoints.web.asDefault \
    --entrypoints.websecure.address=0.0.0.0:443 --entrypoints.websecure.http.tls=true \
    --entrypoints.dns.address=:53/udp --api.insecure=true --serverstransport.insecureskipverify";

const ENVIRONMENT: &str = "PATH=/bin TRAEFIK_PROVIDERS_PROVIDERSTHROTTLEDURATION=500ms TRAEFIK_PROVIDERS_DOCKER=true \
    TRAEFIK_PROVIDERS_DOCKER_EXPOSEDBYDEFAULT=false TRAEFIK_PROVIDERS_DOCKER_CONSTRAINTS=Label(`a`,`b`) \
    TRAEFIK_PROVIDERS_DOCKER_NETWORK=front TRAEFIK_PROVIDERS_DOCKER_USEBINDPORTIP=true \
    TRAEFIK_PROVIDERS_FILE_DIRECTORY=/dynamic \
    TRAEFIK_ENTRYPOINTS_WEB_ADDRESS=:80 TRAEFIK_ENTRYPOINTS_WEB_ASDEFAULT=true \
    TRAEFIK_ENTRYPOINTS_WEBSECURE_ADDRESS=0.0.0.0:443 TRAEFIK_ENTRYPOINTS_WEBSECURE_HTTP_TLS=true \
    TRAEFIK_ENTRYPOINTS_DNS_ADDRESS=:53/udp TRAEFIK_API_INSECURE=true \
    TRAEFIK_SERVERSTRANSPORT_INSECURESKIPVERIFY=true";

#[test]
fn the_same_configuration_is_read_from_each_of_the_four_forms() {
    let yaml = by_file("/etc/traefik/traefik.yml", YAML);
    assert_eq!(
        yaml.docker,
        Some(Docker {
            endpoint: "unix:///var/run/docker.sock".to_owned(),
            exposed_by_default: false,
            default_rule: None,
            constraints: Some("Label(`a`,`b`)".to_owned()),
            network: Some("front".to_owned()),
            use_bind_port_ip: true,
            watch: true,
        })
    );
    let directory = FilePlace::Directory("/dynamic".to_owned());
    assert_eq!(
        yaml.file,
        Some(FileProvider {
            place: directory,
            watch: true
        })
    );
    let secure = &yaml.entrypoints["websecure"];
    assert_eq!((secure.port, secure.tls), (443, true));
    assert!(yaml.entrypoints["dns"].udp);
    assert!(yaml.are_secured(&["WebSecure"]));
    assert!(!yaml.are_secured(&["web", "websecure"]) && !yaml.are_secured(&[]));
    assert_eq!(yaml.insecure_port(), Some(8080));
    assert_eq!(yaml.default_entrypoints(), ["web"]);
    assert_eq!(yaml.throttle, Duration::from_millis(500));
    assert!(!yaml.verifies_servers && StaticConfig::default().verifies_servers);
    for (other, source) in [
        (by_file("/t.toml", TOML), Source::File("/t.toml".to_owned())),
        (by_command(COMMAND), Source::Command),
        (by_environment(ENVIRONMENT), Source::Environment),
    ] {
        assert_eq!(other.source, source);
        let source = yaml.source.clone();
        assert_eq!(StaticConfig { source, ..other }, yaml);
    }
}

#[test]
fn a_file_wins_over_arguments_and_arguments_over_variables() {
    let (arguments, environment) = (
        words("--api --providers.docker"),
        words("TRAEFIK_PROVIDERS_SWARM=true"),
    );
    let all = Given {
        arguments: &arguments,
        environment: &environment,
        file: Some(("/traefik.yaml", "providers: {file: {filename: /x.yml}}")),
    };
    let config = read(all).unwrap();
    assert!(config.file.is_some() && config.api.is_none() && config.docker.is_none());
    let config = read(Given { file: None, ..all }).unwrap();
    assert!(config.api.is_some() && config.docker.is_some() && config.swarm.is_none());
}

#[test]
fn the_swarm_provider_is_found_wherever_it_is_switched_on() {
    let socket = Some("unix:///var/run/docker.sock".to_owned());
    for config in [
        by_command("--providers.docker --providers.swarm"),
        by_command("--providers.swarm=true"),
        by_command("--providers.docker.swarmMode=true"),
        by_environment("TRAEFIK_PROVIDERS_SWARM=true"),
        by_environment("TRAEFIK_PROVIDERS_SWARM_EXPOSEDBYDEFAULT=false"),
        by_file(
            "/etc/traefik/traefik.yml",
            "providers: {swarm: {}, docker: {}}",
        ),
        by_file("/t.toml", "[providers.swarm]\nwatch = true\n"),
    ] {
        assert_eq!(config.swarm, socket);
    }
    let other = by_command("--providers.swarm.endpoint=tcp://swarm:2375");
    assert_eq!(other.swarm.as_deref(), Some("tcp://swarm:2375"));
    for config in [
        by_command("--providers.swarm=false --providers.docker"),
        by_command("--providers.docker.swarmMode=false"),
    ] {
        assert_eq!(config.swarm, None);
    }
}

#[test]
fn without_a_word_there_is_one_entrypoint_and_nothing_else() {
    let config = by_command("");
    assert_eq!(config.default_entrypoints(), ["http"]);
    assert_eq!(config.source, Source::Command);
    assert!(config.docker.is_none() && config.file.is_none() && config.api.is_none());
    assert_eq!(config.insecure_port(), None);
    let off = by_command("--api=false --providers.docker=false");
    assert!(off.docker.is_none() && off.api.is_none());
    let empty = by_file("/traefik.yml", "api: {}\nproviders:\n  docker: {}\n");
    assert!(empty.docker.is_some() && empty.api.is_some());
}

#[test]
fn the_files_that_traefik_looks_for_come_in_its_own_order() {
    let arguments = words("--configFile conf/t.yml");
    let environment = words("HOME=/root XDG_CONFIG_HOME=");
    let given = Given {
        arguments: &arguments,
        environment: &environment,
        file: None,
    };
    let paths = candidates(given, "/srv");
    assert_eq!(
        paths[..4],
        [
            "/srv/conf/t.yml",
            "/etc/traefik/traefik.toml",
            "/etc/traefik/traefik.yaml",
            "/etc/traefik/traefik.yml"
        ]
    );
    assert_eq!(paths[4], "/root/.config/traefik.toml");
    assert_eq!(paths.last().unwrap(), "/srv/traefik.yml");
}

#[test]
fn the_arguments_begin_after_the_program() {
    for line in [
        "/entrypoint.sh --api --x=1",
        "/entrypoint.sh traefik --api --x=1",
        "/usr/local/bin/traefik --api --x=1",
        "tini -- traefik --api --x=1",
    ] {
        assert_eq!(arguments(&words(line)), ["--api", "--x=1"], "{line}");
    }
    let shell = ["sh", "-c", "exec traefik --api '--x=1'"].map(str::to_owned);
    assert_eq!(arguments(&shell), ["--api", "--x=1"]);
    assert!(arguments(&words("/entrypoint.sh traefik")).is_empty());
}

#[test]
fn what_to_add_is_written_as_its_place_wants_it() {
    let option = "api.insecure=true";
    assert_eq!(
        by_command("--api").how_to_add(option),
        "add --api.insecure=true to Traefik's command"
    );
    assert_eq!(
        by_environment("TRAEFIK_API=true").how_to_add(option),
        "add TRAEFIK_API_INSECURE: \"true\" to Traefik's environment"
    );
    assert_eq!(
        by_file("/etc/traefik/traefik.yml", "").how_to_add(option),
        "add api: { insecure: true } to Traefik's /etc/traefik/traefik.yml"
    );
    assert_eq!(
        by_file("/t.toml", "").how_to_add(option),
        "add insecure = true under [api] in Traefik's /t.toml"
    );
}

#[test]
fn a_file_that_is_none_is_named_in_one_line() {
    for (path, text) in [("/a.yml", "a: [1\nb: 2"), ("/a.toml", "a = = 1\n\n")] {
        let error = read(Given {
            file: Some((path, text)),
            ..Given::default()
        });
        let error = error.unwrap_err();
        assert!(error.starts_with(path) && !error.contains('\n'), "{error}");
    }
}

// Every configuration has an entrypoint, and an error is one line.
fn reads(given: Given<'_>) -> Result<(), TestCaseError> {
    match read(given) {
        Ok(config) => {
            prop_assert!(!config.entrypoints.is_empty());
            for option in ["api.insecure=true", "a.b.c"] {
                prop_assert!(!config.how_to_add(option).is_empty());
            }
            config.default_entrypoints();
        }
        Err(error) => prop_assert!(!error.contains('\n'), "{}", error),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_file_is_a_configuration_or_an_error_of_one_line(yaml in mutated_text(YAML), toml in mutated_text(TOML)) {
        reads(Given { file: Some(("traefik.yml", &yaml)), ..Given::default() })?;
        reads(Given { file: Some(("traefik.toml", &toml)), ..Given::default() })?;
    }

    #[test]
    fn any_arguments_and_variables_are_a_configuration(
        words in proptest::collection::vec(
            mutated_text("traefik --entrypoints.web.address=:80 --api.insecure --providers.docker.constraints=x"), 0..3,
        ),
        variables in proptest::collection::vec(mutated_text("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS=:80"), 0..3),
    ) {
        let command: Vec<String> = words.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
        let arguments = arguments(&command);
        prop_assert!(arguments.len() <= command.len());
        reads(Given { arguments: &arguments, ..Given::default() })?;
        reads(Given { environment: &variables, ..Given::default() })?;
        let given = Given { arguments: &arguments, environment: &variables, file: None };
        prop_assert!(candidates(given, "/").len() <= 13);
    }
}

#[test]
fn however_deep_a_configuration_is_the_stack_does_not_overflow() {
    let deep = "a.".repeat(100_000);
    let argument = [format!("--{deep}b=1")];
    let variable = [format!("TRAEFIK_{}=1", deep.replace('.', "_"))];
    assert!(Tree::of_arguments(&argument).is_empty());
    assert!(Tree::of_environment(&variable).is_empty());
    let labels = [(format!("{deep}b"), "1".to_owned())];
    assert!(Tree::of_labels(&labels.into()).is_empty());
    for file in [
        format!("{deep}b = 1"),
        format!("[{deep}b]"),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
    ] {
        assert!(Tree::of_file("traefik.toml", &file).is_err());
    }
}
