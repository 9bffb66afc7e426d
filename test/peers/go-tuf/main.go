// One visit of go-tuf to a TUF repository.
//
//	tuf-client STORE ROOT URL TARGET...
//
// STORE is the client's own folder, kept between visits; ROOT the file of the pinned root; below URL are metadata/ and
// targets/. Every TARGET is looked up and downloaded. Prints one JSON object with `verdict` (accept, refuse, or error
// when the world failed and nothing was decided), `error` and the SHA-256 of each downloaded target; the exit code is
// 0, 1 or 3. Everything about the client is as go-tuf has it by default.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

type result struct {
	Verdict string            `json:"verdict"`
	Error   string            `json:"error,omitempty"`
	Targets map[string]string `json:"targets,omitempty"`
}

func visit(store, root, base string, targets []string) (map[string]string, error) {
	pinned, err := os.ReadFile(root)
	if err != nil {
		return nil, err
	}
	cfg, err := config.New(base+"/metadata", pinned)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir = filepath.Join(store, "metadata")
	cfg.LocalTargetsDir = filepath.Join(store, "downloads")
	cfg.RemoteTargetsURL = base + "/targets"
	client, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := client.Refresh(); err != nil {
		return nil, err
	}
	hashes := map[string]string{}
	for _, target := range targets {
		info, err := client.GetTargetInfo(target)
		if err != nil {
			return nil, err
		}
		_, data, err := client.DownloadTarget(info, "", "")
		if err != nil {
			return nil, err
		}
		hash := sha256.Sum256(data)
		hashes[target] = hex.EncodeToString(hash[:])
	}
	return hashes, nil
}

func judge(arguments []string) (result, int) {
	if len(arguments) < 3 {
		return result{Verdict: "error", Error: "usage: tuf-client STORE ROOT URL TARGET..."}, 2
	}
	hashes, err := visit(arguments[0], arguments[1], arguments[2], arguments[3:])
	if err == nil {
		return result{Verdict: "accept", Targets: hashes}, 0
	}
	text := fmt.Sprintf("%T: %v", err, err)
	var status *metadata.ErrDownloadHTTP
	var network *url.Error
	if errors.As(err, &status) || errors.As(err, &network) {
		return result{Verdict: "error", Error: text}, 3
	}
	return result{Verdict: "refuse", Error: text}, 1
}

func main() {
	answer, code := judge(os.Args[1:])
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		code = 3
	}
	os.Exit(code)
}
