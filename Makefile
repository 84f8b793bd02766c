# uvs: `make demo` shows it, `make test` proves it. Both do all their set-up.
# While you change something: `make quick`. Before you commit: `make check`.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 30s
# cmd/uvs/entry_amd64.s checks the limit of address space before Go starts.
ENTRY   = $(if $(filter amd64,$(shell $(GO) env GOARCH)),-E uvs_entry)
BUILD   = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION) $(ENTRY)"

# The real programs that tests set at both ends, the C compiler -race wants, and
# the packages they are in. Tests whose program is missing skip and name it.
PROGRAMS = curl socat ip ping sysctl tcpdump ethtool nft gcc sipp lftp tnftp python3 tftp
PACKAGES = curl socat iproute2 iputils-ping procps tcpdump ethtool nftables gcc libc6-dev sip-tester lftp tnftp \
	python3 tftp-hpa

# make arch emulates other machines.
PROGRAMS += qemu-arm
PACKAGES += qemu-user

# Servers, as PROGRAM=PACKAGE. They are unpacked, so that none starts by itself.
SERVERS = nginx=nginx vsftpd=vsftpd pure-ftpd=pure-ftpd in.tftpd=tftpd-hpa ldirectord=ldirectord \
	keepalived=keepalived

# Linters are programs of a pinned version that Go builds and keeps in its cache.
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build man demo test arch quick programs check lint bench fuzz cover clean

build: ## the static binary ./uvs
	$(BUILD) -o uvs ./cmd/uvs

man: ## the manual, as man/*.[58]
	$(GO) run ./cmd/uvs man man

demo: build ## NAT, direct routing and tunnel with live traffic, on this machine
	./uvs lab demo

test: build programs ## everything CI asks for, and at the end what was skipped
	$(GO) vet ./...
	@GO=$(GO) .ci/test

arch: programs ## builds for other machines, and tests of what depends on the machine
	@GO=$(GO) .ci/arch

programs: # as root, install what the tests drive; elsewhere they skip
	@for p in $(PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	for s in $(SERVERS); do command -v $${s%=*} >/dev/null || servers="$$servers $${s#*=}"; done; \
	if [ -n "$$missing$$servers" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing what tests need:$$missing$$servers"; \
		apt-get update -qq; \
		[ -z "$$missing" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
		[ -z "$$servers" ] || .ci/unpack $$servers; \
	fi

quick: ## vet, and short tests of what changed since main and of what imports it
	@GO=$(GO) .ci/quick

check: lint ## formatting, vet, linters, layers, names
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(STATICCHECK) ./...
	$(GO) test ./cmd/uvs

lint: # .golangci.yml says what is asked
	$(GOLANGCI) run ./...

bench: ## speed of the parts, in Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 1s ./dataplane/... ./conntrack ./sched ./fwd/... ./ctl

fuzz: ## every fuzz target, for FUZZTIME each
	@set -e; for dir in $$(grep -rl '^func Fuzz' --include=*_test.go . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -h '^func Fuzz' $$dir/*_test.go | sed 's/^func \([A-Za-z0-9_]*\).*/\1/'); do \
			echo "$$dir $$target"; \
			$(GO) test $$dir -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
		done; \
	done

cover: ## which statements short tests reach: a line for every package, and cover.out for `go tool cover -html`
	$(GO) test -short -cover -coverprofile cover.out $$($(GO) list ./... | grep -v /bench/)
	@$(GO) tool cover -func cover.out | tail -n 1

clean:
	rm -rf uvs cover.out man
