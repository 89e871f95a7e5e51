//! `rollout image --cli`, for people who install nothing: a container of that image rolls a stack.

use testbed::{Stack, engine::succeeded};

/// The image that a real one takes from a registry: the testbed's Docker CLI and Compose, and the libraries that they need.
const BASE: &str = r#"set -eu
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
plugins=base/usr/libexec/docker/cli-plugins
mkdir -p base/usr/bin $plugins
mkdir -m 1777 base/tmp
cp -L "$ROLLOUT_TESTBED_DOCKER" base/usr/bin/docker
cp -L "$DOCKER_CONFIG/cli-plugins/docker-compose" $plugins/docker-compose
for library in $(ldd base/usr/bin/docker $plugins/docker-compose | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
    cp -L --parents "$library" base
done
printf 'FROM scratch\nCOPY base/ /\nENV PATH=/usr/bin\n' >Dockerfile
DOCKER_BUILDKIT=0 docker build -q -t "$COMPOSE_PROJECT_NAME:base" . 2>&1
"#;

/// Makes the image with the Docker CLI, and returns its tag.
pub async fn cli_image(stack: &Stack) -> String {
    stack.shell(BASE).await;
    let base = format!("{}:base", stack.name);
    let tag = format!("{}:cli", stack.name);
    let arguments = ["image", "--cli", "--base", &base, "--tag", &tag];
    let built = stack.rollout(&arguments).await;
    assert!(built.code(0).text.contains(&tag), "{}", built.text);
    tag
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_the_docker_cli_rolls_the_stack_of_its_folder_without_loss() {
    let mut stack = Stack::relabelled("");
    let tag = cli_image(&stack).await;
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let folder = stack.folder().display().to_string();
    let bind = format!("{folder}:{folder}");
    let mut arguments = vec!["run", "--rm", "-w", &folder, "-v", &bind];
    arguments.extend(["-v", "/var/run/docker.sock:/var/run/docker.sock"]);
    let variables = stack.environment();
    arguments.extend(variables.flat_map(|(name, _)| ["-e", name]));
    arguments.extend([tag.as_str(), "web"]);
    let run = stack.command("docker", &arguments).output().await.unwrap();
    let report = load.stop().await;
    succeeded(&run, &arguments);
    assert!(report.nothing_lost(), "{report}\n{run:?}");
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_the_own_binary_is_the_one_that_make_builds_and_a_missing_base_is_named() {
    let stack = Stack::relabelled("");
    let tag = format!("{}:own", stack.name);
    stack.rollout(&["image", "--tag", &tag]).await.code(0);
    let inspect = async |name: &str| {
        let format = "{{json .Config}} {{json .RootFS}}";
        stack
            .docker(&["image", "inspect", "-f", format, name])
            .await
    };
    assert_eq!(inspect(&tag).await, inspect(&testbed::image()).await);
    let version = stack.docker(&["run", "--rm", &tag, "--version"]).await;
    assert!(version.starts_with("rollout "), "{version}");
    let missing = [
        "image",
        "--cli",
        "--base",
        "nowhere.invalid/docker:cli",
        "--tag",
        &tag,
    ];
    let run = stack.rollout(&missing).await;
    assert!(run.code(1).text.contains("nowhere.invalid"), "{}", run.text);
}
