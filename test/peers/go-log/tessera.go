package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// How long Tessera may take over one batch; a cold disk is slow.
const batchTimeout = 2 * time.Minute

// fsckLog lets Tessera's fsck read the whole folder: it derives every tile from the entries, compares it with the
// one that is published, and the root with the signed one.
func fsckLog(args []string) (answer, error) {
	folder, vkey := args[0], args[1]
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	check := fsck.New(verifier.Name(), verifier, &client.FileFetcher{Root: folder}, leafHashes, fsck.Opts{N: 2})
	if err := check.Check(context.Background()); err != nil {
		return nil, err
	}
	status := check.Status()
	return answer{"files": status.ResourcesFetched, "bytes": status.BytesFetched}, nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// growPosixLog has Tessera's POSIX driver keep a log of the same entries, with a checkpoint at each of the sizes.
func growPosixLog(args []string) (answer, error) {
	folder, skey := args[0], args[1]
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, err
	}
	entries, err := readEntries(args[2])
	if err != nil {
		return nil, err
	}
	from := 0
	for _, text := range args[3:] {
		size, err := strconv.Atoi(text)
		if err != nil || size <= from || size > len(entries) {
			return nil, fmt.Errorf("size %q does not follow %d", text, from)
		}
		if err := appendBatch(folder, signer, uint64(from), entries[from:size]); err != nil {
			return nil, fmt.Errorf("appending up to %d: %w", size, err)
		}
		from = size
	}
	return answer{"size": from}, nil
}

// appendBatch opens the log, appends one batch and closes it: so no batch is split or joined, and every size asked
// for gets its partial tiles.
func appendBatch(folder string, signer note.Signer, from uint64, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(len(batch)), batchTimeout).
		WithPushback(uint(len(batch)) + 1).
		WithCheckpointInterval(100 * time.Millisecond).
		WithCheckpointRepublishInterval(0).
		WithGarbageCollectionInterval(0)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	var futures []tessera.IndexFuture
	for _, entry := range batch {
		futures = append(futures, appender.Add(ctx, tessera.NewEntry(entry)))
	}
	for i, future := range futures {
		index, err := future()
		if err != nil {
			return err
		}
		if index.Index != from+uint64(i) {
			return fmt.Errorf("entry %d was given index %d", from+uint64(i), index.Index)
		}
	}
	last := slices.Clone(futures[len(futures)-1:])
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	_, checkpoint, err := awaiter.Await(ctx, last[0])
	if err != nil {
		return err
	}
	var published log.Checkpoint
	if _, err := published.Unmarshal(checkpoint); err != nil {
		return err
	}
	if published.Size != from+uint64(len(batch)) {
		return errors.New("the checkpoint is not of the size asked for")
	}
	return shutdown(ctx)
}
