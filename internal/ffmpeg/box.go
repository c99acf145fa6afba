package ffmpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// errBox says that a segment is not made as ffmpeg makes them.
var errBox = errors.New("the segment's boxes are not as they should be")

// keyBytes is the length of a segment up to the end of its first picture, a key frame:
// what a player fetches that winds.
func keyBytes(file string) (int64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read segment: %w", err)
	}
	return firstSampleEnd(content)
}

// firstSampleEnd finds where the first sample of a segment ends: the fragment's header
// says where its data begins and how long each sample is.
func firstSampleEnd(segment []byte) (int64, error) {
	for at := 0; at < len(segment); {
		name, content, next := nextBox(segment, at)
		if next == 0 {
			return 0, errBox
		}
		if name == "moof" {
			end, err := firstSample(content)
			if end += int64(at); err == nil && end > int64(len(segment)) {
				err = errBox
			}
			return end, err
		}
		at = next
	}
	return 0, errBox
}

// nextBox reads the box that begins at a place; next is 0 when there is none that ends
// within.
func nextBox(in []byte, at int) (name string, content []byte, next int) {
	const header = 8
	if len(in)-at < header {
		return "", nil, 0
	}
	size := int(binary.BigEndian.Uint32(in[at:]))
	if size < header || size > len(in)-at {
		return "", nil, 0
	}
	return string(in[at+4 : at+header]), in[at+header : at+size], at + size
}

// child gives the content of the first box of a name.
func child(in []byte, name string) ([]byte, error) {
	for at := 0; at < len(in); {
		found, content, next := nextBox(in, at)
		switch {
		case next == 0:
			return nil, errBox
		case found == name:
			return content, nil
		}
		at = next
	}
	return nil, errBox
}

// firstSample is where the first sample of a fragment ends, counted from the
// fragment's beginning.
func firstSample(moof []byte) (int64, error) {
	track, err := child(moof, "traf")
	if err != nil {
		return 0, err
	}
	header, err := child(track, "tfhd")
	if err != nil {
		return 0, err
	}
	run, err := child(track, "trun")
	if err != nil {
		return 0, err
	}
	// Both begin with their flags, which say what fields follow.
	const (
		baseOffset, description, defaultDuration, defaultSize = 0x1, 0x2, 0x8, 0x10
		dataOffset, firstFlags, duration, size                = 0x1, 0x4, 0x100, 0x200
	)
	h := fields{header, 4 + 4} // and the track
	h.skip(baseOffset, 8)
	h.skip(description, 4)
	h.skip(defaultDuration, 4)
	standard := h.take(defaultSize)
	r := fields{run, 4 + 4} // and the count
	offset := r.take(dataOffset)
	r.skip(firstFlags, 4)
	r.skip(duration, 4)
	length := standard
	if r.has(size) {
		length = r.take(size)
	}
	if offset <= 0 || length <= 0 {
		return 0, errBox
	}
	return offset + length, nil
}

// fields reads a box whose flags say which fields it has.
type fields struct {
	box []byte
	at  int
}

func (f *fields) has(flag uint32) bool {
	return len(f.box) >= 4 && binary.BigEndian.Uint32(f.box)&0xffffff&flag != 0
}

func (f *fields) skip(flag uint32, bytes int) {
	if f.has(flag) {
		f.at += bytes
	}
}

// take is the field's value, or 0 when it is not there.
func (f *fields) take(flag uint32) int64 {
	if !f.has(flag) || len(f.box)-f.at < 4 {
		return 0
	}
	v := binary.BigEndian.Uint32(f.box[f.at:])
	f.at += 4
	return int64(int32(v))
}
