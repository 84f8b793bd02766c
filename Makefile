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
PROGRAMS = nginx curl socat ip ping sysctl tcpdump ethtool nft gcc sipp
PACKAGES = nginx-light curl socat iproute2 iputils-ping procps tcpdump ethtool nftables gcc libc6-dev sip-tester

# Only one FTP server can be installed as a package.
PROGRAMS += vsftpd pure-ftpd lftp tnftp python3 tftp in.tftpd
PACKAGES += vsftpd lftp tnftp python3 tftp-hpa tftpd-hpa
UNPACK_PURE_FTPD = (d=$$(mktemp -d) && cd $$d && apt-get download -qq pure-ftpd && dpkg-deb -x pure-ftpd_*.deb . && \
	install usr/sbin/pure-ftpd /usr/local/sbin/ && rm -r $$d) >/dev/null 2>&1

# Linters are programs of a pinned version that Go builds and keeps in its cache.
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build demo test quick programs check lint bench fuzz cover clean

build: ## the static binary ./uvs
	$(BUILD) -o uvs ./cmd/uvs

demo: build ## NAT, direct routing and tunnel with live traffic, on this machine
	./uvs lab demo

# -count=1: Go's cache does not see the binary and the programs that tests drive.
test: build programs ## everything CI asks for
	$(GO) vet ./...
	$(GO) test -count=1 ./...
	@command -v gcc >/dev/null || echo "skipping the tests with -race: they need gcc"
	! command -v gcc >/dev/null || CGO_ENABLED=1 $(GO) test -count=1 -race -short ./...

programs: # as root, install what the tests drive; elsewhere they skip
	@for p in $(PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing what tests need:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
		command -v pure-ftpd >/dev/null || $(UNPACK_PURE_FTPD) || echo "pure-ftpd is not to be had"; \
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
	rm -f uvs cover.out
