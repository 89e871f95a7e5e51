//! The Traefik API, however it is guarded and wherever it hides; and one that is off.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::bad_input::refused;
use testbed::{Run, Stack, USUAL, eventually, free_port};

/// What every Traefik here needs, as a file.
const PROVIDER: &str = r#"providers:
  docker: { exposedByDefault: false, constraints: "Label(`com.docker.compose.project`,`PROJECT`)" }
  file: { directory: /dynamic }
entryPoints:
  web: { address: ":80" }
"#;

/// `admin`, `open sesame`.
const USERS: &str = "admin:{SHA}W8r/fyL/UzygmbNAjq2HbA67qac=";

/// Puts another Traefik in the place of the one that is there, and waits until it serves.
async fn another_traefik(stack: &Stack, service: &str, config: &str) {
    let config = format!("{PROVIDER}{config}").replace("PROJECT", &stack.name);
    stack.write("traefik.yml", &config);
    let mount =
        "    volumes: ['./traefik.yml:/etc/traefik/traefik.yml:ro', './dynamic:/dynamic:ro']\n";
    let compose = format!("services:\n  web:\n{USUAL}  traefik:\n{mount}{service}");
    stack.write("compose.yaml", &compose);
    stack
        .compose(&["up", "-d", "--force-recreate", "--no-deps", "traefik"])
        .await;
    stack.answers("v1").await;
    stack.traefik_listens().await;
}

/// The API was asked, and said that all is as it should be.
#[track_caller]
fn asked(run: &Run, how: &str) {
    run.code(0);
    assert!(run.event("nothing_to_do").is_some(), "{}", run.text);
    assert!(run.text.contains(how), "{how}: {}", run.text);
}

fn silent_about(run: &Run, secret: &str) {
    let events = format!("{:?}", run.events);
    assert!(!format!("{}{}{events}", run.text, run.out).contains(secret));
}

/// None at all: what to add is said as the file wants it.
async fn the_api_is_off(stack: &Stack) {
    another_traefik(stack, "", "").await;
    let error = format!("the API of Traefik ({}-traefik-1) is off", stack.name);
    let next = "add api: { insecure: true } to Traefik's /etc/traefik/traefik.yml";
    refused(&stack.rollout(&["web"]).await, &error, next);
}

/// A router by labels, on an entrypoint that is not published, with a password.
async fn the_api_wants_a_password(stack: &mut Stack) {
    let labels = format!(
        r#"    labels:
      traefik.enable: "true"
      traefik.http.routers.dash.rule: Host(`traefik.test`) && (PathPrefix(`/api`) || PathPrefix(`/dashboard`))
      traefik.http.routers.dash.service: api@internal
      traefik.http.routers.dash.entrypoints: internal
      traefik.http.routers.dash.middlewares: guard
      traefik.http.middlewares.guard.basicauth.users: "{USERS}"
"#
    );
    let config = "  internal: { address: \":9000\" }\napi: {}\n";
    another_traefik(stack, &labels, config).await;
    let api = format!(
        "the API of Traefik ({}-traefik-1), by its router dash,",
        stack.name
    );
    refused(
        &stack.rollout(&["web"]).await,
        &format!("{api} requires a password"),
        "--traefik-auth-file",
    );
    stack.set("ROLLOUT_TRAEFIK_AUTH", "admin:close sesame");
    let wrong = stack.rollout(&["web"]).await;
    let refuses = format!("{api} refuses the user and password of ROLLOUT_TRAEFIK_AUTH");
    refused(&wrong, &refuses, "correct user:password");
    silent_about(&wrong, "close sesame");
    stack.set("ROLLOUT_TRAEFIK_AUTH", "admin:open sesame");
    asked(
        &stack.rollout(&["-v", "web"]).await,
        "http://traefik.test:9000",
    );
    stack.unset("ROLLOUT_TRAEFIK_AUTH");
    stack.write("auth", "admin:open sesame\n");
    let by_file = stack
        .rollout(&["-vvv", "--traefik-auth-file", "auth", "web"])
        .await;
    asked(&by_file, "http://traefik.test:9000");
    silent_about(&by_file, "open sesame");
}

/// A router by the file provider, on a TLS entrypoint, with a path of its own.
async fn the_api_is_on_a_path(stack: &Stack) {
    stack.write(
        "dynamic/api.yml",
        "http: {routers: {ops: {rule: 'PathPrefix(`/ops`)', entryPoints: [secure], service: api@internal, \
         middlewares: [strip]}}, middlewares: {strip: {stripPrefix: {prefixes: [/ops]}}}}",
    );
    let config = "  secure: { address: \":9443\", http: { tls: {} } }\napi: {}\n";
    another_traefik(stack, "", config).await;
    asked(&stack.rollout(&["-v", "web"]).await, ":9443/ops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_nothing_is_published_of_is_found_behind_its_password_and_in_its_container() {
    let mut stack = Stack::relabelled("");
    std::fs::create_dir_all(stack.path("dynamic")).unwrap();
    stack.up("v1").await;
    the_api_is_off(&stack).await;
    the_api_wants_a_password(&mut stack).await;
    the_api_is_on_a_path(&stack).await;

    // Bound to the loopback of its container.
    let config = "  traefik: { address: \"127.0.0.1:9001\" }\napi: { insecure: true }\n";
    another_traefik(&stack, "", config).await;
    asked(&stack.rollout(&["-v", "web"]).await, "by a helper");
    let load = stack.load();
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--bake", "1m", "web"]);
    run.reaches("step_started", "bake").await;
    let traefik = stack.replicas("traefik").await.remove(0);
    assert_eq!(stack.helpers(&traefik.id).await.len(), 1);
    run.kill().await;
    no_helper(&stack, &traefik.id).await;
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.settled(1).await;
    no_helper(&stack, &traefik.id).await;
}

async fn no_helper(stack: &Stack, container: &str) {
    eventually("no helper is left", Duration::from_secs(30), async || {
        let helpers = stack.helpers(container).await;
        helpers.is_empty().then_some(()).ok_or(helpers)
    })
    .await;
}

/// An authority of our own, and a certificate for 127.0.0.1 that comes from it; all in PEM form.
fn certificates() -> (String, String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let server = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&server, &issuer).unwrap();
    (authority_pem, certificate.pem(), server.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_named_is_trusted_by_its_certificate_alone_and_its_password_is_never_printed()
 {
    let mut stack = Stack::relabelled("");
    std::fs::create_dir_all(stack.path("dynamic")).unwrap();
    let (authority, certificate, key) = certificates();
    stack.write("ca.pem", &authority);
    stack.write("dynamic/server.pem", &certificate);
    stack.write("dynamic/server.key", &key);
    stack.write("dynamic/server.yml", "tls: {stores: {default: {defaultCertificate: {certFile: /dynamic/server.pem, keyFile: /dynamic/server.key}}}}");
    let port = free_port();
    stack.set("API_PORT", port).up("v1").await;
    let service = format!(
        r#"    ports: ["127.0.0.1:${{API_PORT}}:9443"]
    labels:
      traefik.enable: "true"
      traefik.http.routers.dash.rule: PathPrefix(`/traefik`)
      traefik.http.routers.dash.service: api@internal
      traefik.http.routers.dash.entrypoints: secure
      traefik.http.routers.dash.middlewares: guard
      traefik.http.middlewares.guard.basicauth.users: "{USERS}"
      traefik.http.routers.away.rule: PathPrefix(`/away`)
      traefik.http.routers.away.service: noop@internal
      traefik.http.routers.away.entrypoints: secure
      traefik.http.routers.away.middlewares: away
      traefik.http.middlewares.away.redirectregex.regex: .*
      traefik.http.middlewares.away.redirectregex.replacement: https://elsewhere.test/login?state=secret-state
"#
    );
    let config =
        "  secure: { address: \":9443\", http: { tls: {} } }\napi: { basePath: /traefik }\n";
    another_traefik(&stack, &service, config).await;
    let host = format!("127.0.0.1:{port}");
    let url = format!("https://admin:open%20sesame@{host}/traefik/dashboard/#/http/routers");
    let untrusted = stack.rollout(&["-vvv", "--traefik-url", &url, "web"]).await;
    untrusted.code(2);
    assert!(untrusted.text.contains("certificate"), "{}", untrusted.text);
    silent_about(&untrusted, "sesame");
    let trust = ["--traefik-ca", "ca.pem", "web", "--traefik-url"];
    let with = async |url: &str| stack.rollout(&[&trust[..], &[url]].concat()).await;
    asked(&with(&url).await, "nothing to do");
    let bare = format!("https://{host}/traefik/");
    let error = format!("the Traefik API at https://{host}/traefik requires a password (401)");
    refused(&with(&bare).await, &error, "ROLLOUT_TRAEFIK_AUTH");
    let away = format!("https://{host}/away");
    let error = format!(
        "the Traefik API at {away}/api/version redirects to https://elsewhere.test/login, which is not followed"
    );
    refused(&with(&away).await, &error, "--traefik-url");
    let wrong = with(&format!("ftp://admin:sesame@{host}")).await;
    let error = format!("\"…@{host}\" is no Traefik API URL: it is neither http nor https");
    refused(&wrong, &error, "--traefik-url http://127.0.0.1:8080");
    silent_about(&wrong, "sesame");
    // The same one, found by itself: the engine vouches for the address, and the operator for the certificate.
    stack.set("ROLLOUT_TRAEFIK_AUTH", "admin:open sesame");
    let found = stack.rollout(&["-v", "web"]).await;
    asked(&found, &format!("at {host}"));
    stack.set("ROLLOUT_TRAEFIK_CA", "ca.pem");
    asked(&stack.rollout(&["-v", "web"]).await, &format!("at {host}"));
}

/// Traefik answers with a hundred at a time; what is asked for here is on the second page.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_is_not_on_the_first_page_is_found() {
    let mut stack = Stack::relabelled("");
    let routers: String = (0..120)
        .map(|number| {
            format!("      traefik.http.routers.{number:03}-web.rule: Host(`{number}.test`)\n")
        })
        .collect();
    let many = format!(
        "  many:\n    image: rollout-demo:v1\n    networks: [front]\n    labels:\n      traefik.enable: \"true\"\n{routers}"
    );
    stack.write("compose.yaml", &format!("services:\n  web:\n{USUAL}{many}"));
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(!run.text.contains("does not exist"), "{}", run.text);
    stack.settled(1).await;
}
