//go:build !linux && !darwin && !freebsd

package backbone

import (
	"errors"
	"fmt"
)

// DiskOf cannot tell here: there is no reserve and no warning on this system.
func DiskOf(string) (Disk, error) { return Disk{}, fmt.Errorf("disk space: %w", errors.ErrUnsupported) }
