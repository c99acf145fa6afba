package livestream_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestArchivePrefix(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("018f3b1e-0000-7000-8000-000000000001")
	require.Equal(t, "archives/"+id.String()+"/", livestream.ArchivePrefix(id))
}
