# The image rollout:latest: one static binary, and nothing else. `make image` stages rootfs/ and builds it.
FROM scratch
LABEL org.opencontainers.image.title="rollout" \
      org.opencontainers.image.description="Zero-downtime rollouts for Docker Compose services behind Traefik" \
      org.opencontainers.image.licenses="MIT" \
      io.rollout.image="true" \
      io.rollout.helper="3"
# /rollout, and /var/lib/rollout that any user may write: a named volume takes on its mode.
COPY rootfs/ /
VOLUME /var/lib/rollout
EXPOSE 2375
# Every address of the container; elsewhere the socket proxy needs --listen.
ENV ROLLOUT_SOCKET_PROXY_LISTEN=0.0.0.0:2375
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s CMD ["/rollout", "socket-proxy", "--check"]
ENTRYPOINT ["/rollout"]
