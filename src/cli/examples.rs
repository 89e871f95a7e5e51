//! The examples at the end of each help.

pub const ROLLOUT: &str = "\
Each setting is also a key of x-rollout: in the Compose file, and a ROLLOUT_… variable: rollout help settings.

Examples:
  rollout web                    roll web to what the Compose file says
  rollout --all                  roll every service that has changed, what others depend on first
  rollout web --set TAG=v1.11    roll with this variable, and write it to .env once it has succeeded
  rollout --pull always web api  pull, then roll two services side by side
  rollout --bake 1m web          keep the old replicas for a minute, for an instant rollback
  rollout --on a --on 2=b web    roll on the host of context a, and on b once a has succeeded

Exit codes:
  0    done, or nothing to do
  1    failed; the old version serves
  2    refused before anything was touched
  3    failed, and needs a person: the message says what and how
  4    locked by another rollout of the service
  5    paused: a canary, a rolling update or a preview waits for a person
  10   there are changes: rollout plan, and --dry-run
  130  interrupted; the last line says which version serves";

pub const UP: &str = "\
All services are checked, and their images fetched, before the first is touched. A service begins once those that it \
depends on are done (depends_on, and after in x-rollout); the others roll side by side. After a failure, the services that \
are rolled by then keep the new version, unless --on-failure rollback is given. See: rollout help settings.

Examples:
  rollout up web                 the same as: rollout web
  rollout up status              roll a service that has the name of a command
  rollout up --all db            roll every service that has changed, and db although it keeps data";

pub const PLAN: &str = "\
Exit code 0 if there is nothing to do, 10 if there are changes, 2 if a rollout would be refused. Values of environment \
variables are not printed, nor those of labels that may be secrets: rollout history SERVICE --diff A..B has all values. \
An image that is pulled or built first is not known before: the plan then has every step, and the rollout ends early if \
the image turns out to be the same.

Examples:
  rollout plan                     what `rollout --all` would do
  rollout plan web api             two services, as rollout web api would roll them
  rollout web --scale 3 --dry-run  one service, with settings";

pub const RESTART: &str = "\
The containers are replaced with the care of any rollout. The Compose file is not rolled: changes in it wait for the next \
`rollout SERVICE`. The history gets a revision of the same content. Hooks of pre-deploy, such as migrations, do not run.

Examples:
  rollout restart web            new containers of what runs
  rollout restart web api        two services in this order
  rollout restart --bake 1m web  keep the replaced replicas for a minute";

pub const PROMOTE: &str = "\
Exit code 5 if the rollout pauses again. A run that waits at the pause goes on itself; else this command goes on with it.

Examples:
  rollout promote web           the next step
  rollout promote web --full    all traffic at once, without the steps that are left
  rollout promote web --attach  the next step, and wait at the pause after it";

pub const PAUSE: &str = "\
The run ends with exit code 5, and the traffic stays as it is. A run with --attach waits instead. A step that is not a wait, \
such as a stop, comes to its end first; Ctrl-C withdraws the request.

Examples:
  rollout pause web   from another terminal or machine
  rollout resume web  goes on from there
  rollout abort web   takes the traffic back";

pub const RESUME: &str = "\
A pause that is a step of the rollout itself is ended by rollout promote.

Examples:
  rollout resume web                after a crash, a reboot or a kill of the command
  rollout resume web --attach       after rollout pause web, and wait at the next pause
  rollout resume web --output json  one event a line, for scripts";

pub const ABORT: &str = "\
A run that is still at work goes back itself: from its wait or its hook at once, from any other step, such as a stop, once that \
has ended. Ctrl-C withdraws the request until then. Exit code 2 if the run was finished before.

Examples:
  rollout abort web                    the traffic returns to the old replicas
  rollout abort web --output json      one event a line, for scripts
  rollout abort -f compose.yaml web    with the Compose file of the interrupted rollout";

pub const UNDO: &str = "\
The revision is restored exactly as it was, also when `latest` has moved or the Compose file has changed since; its image \
gets its old name back. A config or secret that comes from a file has the content that the file has now. The Compose file \
still describes the newer version: undo names the line to change, and the next `rollout SERVICE` goes forward again. \
Revision 1 is what ran before the first rollout, recorded from the Compose file if that still describes it, else from the \
containers.

Examples:
  rollout undo web          to the newest earlier revision that differs; a run that is at work goes back itself
  rollout undo web --to 3   to revision 3 of: rollout history web
  rollout undo web api      api first, then web: what was rolled last is undone first";

pub const HISTORY: &str = "\
Without a service, or with several: one table, the newest first. --revision N and --diff A..B need one service.

Examples:
  rollout history web              revisions and failed attempts; * marks the one that runs
  rollout history --limit 10       the last ten rollouts of the whole project
  rollout history web --diff 3..4  what changed between two revisions";

pub const STATUS: &str = "\
Exit code 0 if every service is up to date, 1 if not.

Examples:
  rollout status                a row for each service of the project
  rollout status web --watch    one service in full, until it is up to date
  rollout status --output json  one JSON object for each service";

pub const DOCTOR: &str = "\
Exit code 1 if a rollout would be refused or lose requests, else 0, also with warnings. Nothing is changed.

Examples:
  rollout doctor                every service of the Compose file
  rollout doctor web            one service
  rollout doctor --output json  one finding a line, with the edits that fix it";

pub const PRUNE: &str = "\
A project is gone once it has no container. Of the project in this directory, a service is gone that is neither in the \
Compose file, with any profile, nor has a container. Nothing else is removed, and nothing that rollout did not create.

Examples:
  rollout prune                list image tags, records and locks that are kept for nothing
  rollout prune --yes          remove them
  rollout prune shop --yes     remove what is kept of the project shop alone";

pub const UNLOCK: &str = "\
Examples:
  rollout unlock web                remove the lock of a process that ended
  rollout unlock web --force        remove the lock of a process on another machine
  rollout unlock -p shop web        without a Compose file: name the project";

pub const INIT: &str = "\
Comments, order and indentation of the file stay as they are.

Examples:
  rollout init                       print the change as a diff, and write nothing
  rollout init --write               apply it to the Compose file, and build rollout:latest
  rollout init --traefik edge        Traefik is the service edge";

pub const IMAGE: &str = "\
`rollout init --write` builds it too, where the engine lacks it or has another version. After an upgrade, build it again and \
recreate the socket proxy. A binary that is not static is refused. rollout:cli rolls from where nothing is installed:
docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v \"$PWD:$PWD\" -w \"$PWD\" rollout:cli web
With registries that ask for a login, add: -v ~/.docker/config.json:/root/.docker/config.json:ro

Examples:
  rollout image && docker compose up -d socket-proxy  after an upgrade
  rollout image -H ssh://shop.example.com             on another engine
  rollout image --cli                                 rollout:cli, with the Docker CLI and Compose of docker:cli";

pub const RELABEL: &str = "\
The labels hold until they are cleared or the container is removed; Docker's own labels do not change. A rollout of the \
same service overrides them.

Examples:
  rollout relabel shop-web-2 traefik.enable=false  no new requests; those in flight are answered
  rollout relabel shop-web-2 --clear               back in rotation
  rollout relabel --list                           every changed label of the project";

pub const AGENT: &str = "\
Only services with x-rollout: { auto: true } in the Compose file are rolled. See: rollout help agent.

Examples:
  rollout agent                              check every 5 minutes
  rollout agent --token-file token           and when CI calls the webhook
  rollout agent --once                       one check, for cron or a systemd timer";

pub const SOCKET_PROXY: &str = "\
It runs in a container on a network that it shares with Traefik alone: rollout help proxies.

Examples:
  command: [socket-proxy, --only=traefik.enable=true]  in a Compose file: hide all other containers
  rollout socket-proxy --listen 127.0.0.1:2375         outside its image, an address is required
  rollout socket-proxy --check                         exit code 0 if the running daemon answers";

pub const COMPLETIONS: &str = "\
The script asks rollout for the names of services and revisions. The .deb package and make install put it in place; after \
make install of a user, .zshrc needs before compinit: fpath+=(~/.local/share/zsh/site-functions). `docker rollout` is \
completed by Docker's own script.

Examples:
  rollout completions bash >/etc/bash_completion.d/rollout
  rollout completions zsh >\"${fpath[1]}/_rollout\"
  rollout completions fish >~/.config/fish/completions/rollout.fish";

pub const HELP: &str = "\
Examples:
  rollout help                  list commands and topics
  rollout help undo             the help of a command
  rollout help troubleshooting  messages and what to do about them";
