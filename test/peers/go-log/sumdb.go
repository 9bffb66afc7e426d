package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// claims are proofs that our client built from the same folder.
type claims struct {
	Inclusion []struct {
		Index  int64
		Hashes tlog.RecordProof
	}
	Consistency []struct {
		Size   int64
		Root   tlog.Hash
		Hashes tlog.TreeProof
	}
}

// checkWithSumdb reads the folder as the Go command reads the checksum database: every hash comes out of
// tlog.TileHashReader, which authenticates each tile against the root that the note signs.
func checkWithSumdb(args []string) (answer, error) {
	folder, vkey := args[0], args[1]
	entries, err := readEntries(args[2])
	if err != nil {
		return nil, err
	}
	var claimed claims
	if err := readJSON(args[3], &claimed); err != nil {
		return nil, err
	}
	tree, err := signedTree(folder, vkey)
	if err != nil {
		return nil, err
	}
	if tree.N != int64(len(entries)) {
		return nil, fmt.Errorf("the checkpoint is of %d entries, not of %d", tree.N, len(entries))
	}
	reader := tlog.TileHashReader(tree, tiles{folder})
	if err := checkLeaves(reader, entries); err != nil {
		return nil, err
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, errors.New("the tiles make another root")
	}
	for _, claim := range claimed.Inclusion {
		leaf := tlog.RecordHash(entries[claim.Index])
		if err := tlog.CheckRecord(claim.Hashes, tree.N, tree.Hash, claim.Index, leaf); err != nil {
			return nil, fmt.Errorf("inclusion of %d: %w", claim.Index, err)
		}
		own, err := tlog.ProveRecord(tree.N, claim.Index, reader)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(own, claim.Hashes) {
			return nil, fmt.Errorf("tlog proves the inclusion of %d by other hashes", claim.Index)
		}
	}
	for _, claim := range claimed.Consistency {
		if err := tlog.CheckTree(claim.Hashes, tree.N, tree.Hash, claim.Size, claim.Root); err != nil {
			return nil, fmt.Errorf("consistency with %d: %w", claim.Size, err)
		}
		own, err := tlog.ProveTree(tree.N, claim.Size, reader)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(own, claim.Hashes) {
			return nil, fmt.Errorf("tlog proves the consistency with %d by other hashes", claim.Size)
		}
		old, err := tlog.TreeHash(claim.Size, reader)
		if err != nil {
			return nil, err
		}
		if old != claim.Root {
			return nil, fmt.Errorf("the tree of %d had another root", claim.Size)
		}
	}
	return answer{
		"size":        tree.N,
		"root":        root.String(),
		"inclusion":   len(claimed.Inclusion),
		"consistency": len(claimed.Consistency),
	}, nil
}

func checkLeaves(reader tlog.HashReader, entries [][]byte) error {
	places := make([]int64, len(entries))
	for i := range entries {
		places[i] = tlog.StoredHashIndex(0, int64(i))
	}
	hashes, err := reader.ReadHashes(places)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if hashes[i] != tlog.RecordHash(entry) {
			return fmt.Errorf("entry %d is not the one in the tree", i)
		}
	}
	return nil
}

func signedTree(folder, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	checkpoint, err := torchwood.ParseCheckpoint(opened.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if checkpoint.Origin != verifier.Name() || checkpoint.Extension != "" {
		return tlog.Tree{}, errors.New("not a checkpoint of this log alone")
	}
	return checkpoint.Tree, nil
}

// tiles is the published folder, as a tlog.TileReader. It trusts nothing and keeps nothing.
type tiles struct{ folder string }

func (tiles) Height() int { return torchwood.TileHeight }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		bytes, err := os.ReadFile(filepath.Join(t.folder, torchwood.TilePath(tile)))
		if err != nil {
			return nil, err
		}
		found = append(found, bytes)
	}
	return found, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func readJSON(file string, into any) error {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(bytes, into)
}
