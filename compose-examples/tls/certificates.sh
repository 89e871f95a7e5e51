#!/bin/sh
# Makes certs/: a local authority, a certificate of it for the two names of this stack, and the password of the API.
set -eu
cd "$(dirname "$0")"
mkdir -p certs && cd certs
umask 077
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

key ca-key.pem
openssl req -x509 -new -key ca-key.pem -days 3650 -subj "/CN=local authority" -out ca.pem

key site-key.pem
echo "subjectAltName=DNS:tls.localhost,DNS:traefik.tls.localhost" >site.ext
openssl req -new -key site-key.pem -subj /CN=tls.localhost -out site.csr
openssl x509 -req -in site.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 365 -extfile site.ext -out site.pem
rm site.csr site.ext

# What rollout says, and what Traefik knows of it.
echo "admin:$(openssl rand -hex 16)" >password
echo "admin:$(cut -d: -f2 password | openssl passwd -apr1 -stdin)" >users
