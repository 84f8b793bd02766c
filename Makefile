build:
	CGO_ENABLED=0 go build -trimpath -o uvs ./cmd/uvs
