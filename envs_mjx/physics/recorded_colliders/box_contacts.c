// Contacts of boxes with boxes as MuJoCo 3.3.7 reports them.
//
// The same algorithm as envs_mjx/physics/mjx/collision/box.py, which documents it, in double precision and in the same
// order.

#include "contacts.h"

#define KEEP 1.01       // points further outside a box than this, relative to its size, are removed
#define UPRIGHT 0.5     // edges of the incident box steeper than this (cosine with a normal) do not bound its face
#define ROUNDING 1e-12  // a product of edges must have less overlap than the best face by this part of it
#define CANDIDATES 16   // eight cuts of the outlines, four corners of each face

typedef struct {        // axis of least overlap
  double overlap;       // negative where the boxes are apart
  double direction[3];  // in the frame of the reference box, away from it
  int is_edges;         // product of an edge of each box
  int edge;             // edge of the second box in that product
  int second;           // the second box is the reference
} Axis;

typedef struct {        // incident face over the reference face, whose z axis points out of it
  double half[2];       // half-lengths of the reference face
  double normal[3];     // contact normal, away from the reference box
  double corner[3];     // deepest corner of the incident face
  double edges[2][3];   // its edges from that corner
  int bounds[2];        // which edges bound the face
} Faces;

typedef struct {
  double pos[3];
  double dist;
  int valid;
} Point;

// From a box to its faces +x, +y, +z, -x, -y, -z; the handedness decides the order of the corners.
static const double TURNS[6][3][3] = {
    {{0, 0, -1}, {0, 1, 0}, {1, 0, 0}}, {{1, 0, 0}, {0, 0, -1}, {0, 1, 0}}, {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    {{0, 0, 1}, {0, 1, 0}, {-1, 0, 0}}, {{1, 0, 0}, {0, 0, 1}, {0, -1, 0}}, {{-1, 0, 0}, {0, 1, 0}, {0, 0, -1}},
};

static int largest(const double v[3]) {
  int best = 0;
  for (int i = 1; i < 3; i++)
    if (fabs(v[i]) > fabs(v[best])) best = i;
  return best;
}

// Best of the nine products of edges: its overlap, which one, and its unit vector away from the first box.
static double least_edges(Shape first, Shape second, double turn[3][3], const double apart[3], int* which, double axis[3]) {
  double least = INFINITY;
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      double unit[3] = {0, 0, 0}, along, overlap = 0;
      unit[(i + 1) % 3] = -turn[(i + 2) % 3][j];
      unit[(i + 2) % 3] = turn[(i + 1) % 3][j];
      double length = sqrt(dot(unit, unit));
      if (length < 8 * EPSILON) continue;
      for (int k = 0; k < 3; k++) unit[k] /= length;
      along = dot(unit, apart);
      for (int k = 0; k < 3; k++) {
        double other = unit[0] * turn[0][k] + unit[1] * turn[1][k] + unit[2] * turn[2][k];
        overlap += fabs(unit[k]) * first.size[k] + fabs(other) * second.size[k];
      }
      overlap -= fabs(along);
      if (overlap < least) {
        least = overlap;
        *which = 3 * i + j;
        for (int k = 0; k < 3; k++) axis[k] = along < 0 ? -unit[k] : unit[k];
      }
    }
  return least;
}

static Axis least_overlap(Shape first, Shape second) {
  double turn[3][3], between[3], apart[3], towards[6], faces[6], product[3] = {0, 0, 0}, reach = 0;
  int face = 0, edges_of = 0;
  relative(turn, first.mat, second.mat);
  subtract(between, second.pos, first.pos);
  to_local(apart, first.mat, between);
  for (int i = 0; i < 3; i++) {
    double back = -(turn[0][i] * apart[0] + turn[1][i] * apart[1] + turn[2][i] * apart[2]);
    faces[i] = first.size[i] - fabs(apart[i]);
    faces[3 + i] = second.size[i] - fabs(back);
    for (int k = 0; k < 3; k++) {
      faces[i] += fabs(turn[i][k]) * second.size[k];
      faces[3 + i] += fabs(turn[k][i]) * first.size[k];
    }
    towards[i] = apart[i];
    towards[3 + i] = back;
    reach += first.size[i] + second.size[i];
  }
  for (int i = 1; i < 6; i++)
    if (faces[i] < faces[face]) face = i;
  double edges = least_edges(first, second, turn, apart, &edges_of, product);

  Axis axis = {fmin(faces[face], edges), {0, 0, 0}, 0, edges_of % 3, 0};
  axis.is_edges = edges < faces[face] - fmax(ROUNDING * faces[face], 4 * EPSILON * reach);
  axis.second = !axis.is_edges && face >= 3;
  if (axis.is_edges)
    memcpy(axis.direction, product, sizeof(product));
  else
    axis.direction[face % 3] = towards[face] < 0 ? -1 : 1;
  return axis;
}

// The reference face and, in its frame, the face of the other box that is most opposed to the normal.
static Faces meet(const Axis* axis, Shape base, Shape other, const double to_face[3][3], double height) {
  Faces faces;
  double turn[3][3], along[3], between[3], centre[3], sorted[3];
  relative(turn, base.mat, other.mat);
  for (int j = 0; j < 3; j++)
    along[j] = axis->direction[0] * turn[0][j] + axis->direction[1] * turn[1][j] + axis->direction[2] * turn[2][j];
  int leaves = largest(along);
  int side = axis->is_edges ? axis->edge : (leaves + 1) % 3;
  int order[3] = {side, (6 - side - leaves) % 3, leaves};
  for (int k = 0; k < 3; k++) sorted[k] = along[order[k]];

  subtract(between, other.pos, base.pos);
  to_local(centre, base.mat, between);
  for (int i = 0; i < 3; i++) {
    faces.normal[i] = dot(to_face[i], axis->direction);
    faces.corner[i] = dot(to_face[i], centre) - (i == 2 ? height : 0);
    if (i < 2) faces.half[i] = fabs(dot(to_face[i], base.size));
    for (int k = 0; k < 3; k++) {
      int positive = k == 0 ? axis->is_edges || sorted[0] < 0 : sorted[k] < 0;
      const double column[3] = {turn[0][order[k]], turn[1][order[k]], turn[2][order[k]]};
      double part = dot(to_face[i], column) * other.size[order[k]] * (positive ? 1 : -1);
      faces.corner[i] += part;
      if (k < 2) faces.edges[k][i] = -2 * part;
    }
  }
  for (int k = 0; k < 2; k++) faces.bounds[k] = fabs(sorted[k]) < UPRIGHT || axis->is_edges;
  return faces;
}

// Where a segment enters and leaves a rectangle, as parts of it; 0 where it misses.
static int cut(const double start[2], const double side[2], const double half[2], double part[2]) {
  part[0] = -INFINITY;
  part[1] = INFINITY;
  for (int i = 0; i < 2; i++) {
    if (fabs(side[i]) < 1e-15) {
      if (fabs(start[i]) > half[i]) return 0;
      continue;
    }
    double low = (-half[i] - start[i]) / side[i], high = (half[i] - start[i]) / side[i];
    part[0] = fmax(part[0], fmin(low, high));
    part[1] = fmin(part[1], fmax(low, high));
  }
  return part[0] <= part[1];
}

static Point halfway(const double above[3], double x, double y, double dist, int valid) {
  Point point = {{0.5 * above[0] + 0.5 * x, 0.5 * above[1] + 0.5 * y, 0.5 * above[2]}, dist, valid};
  return point;
}

static int all_or_any(int first, int second, int any_will_do) {
  return any_will_do ? first || second : first && second;
}

// Where the outline of the image of the incident face crosses that of the reference face: eight points.
static int find_cuts(const Faces* f, double corners[4][3], double image[4][2], int is_edges, Point* out) {
  static const int start[4] = {0, 2, 0, 1}, along[4] = {0, 0, 1, 1};
  int both = f->bounds[0] && f->bounds[1], any = 0;
  int allowed[4] = {f->bounds[0], both, f->bounds[1], both};
  double scale = is_edges ? 1 / f->normal[2] : 0.5;
  for (int i = 0; i < 4; i++) {
    double part[2];
    const double side[2] = {image[1 + along[i]][0] - image[0][0], image[1 + along[i]][1] - image[0][1]};
    int crosses = cut(image[start[i]], side, f->half, part) && allowed[i];
    for (int k = 0; k < 2; k++) {
      int valid = crosses && part[k] >= 0 && part[k] <= 1;
      double above[3], t = valid ? part[k] : 0;
      for (int c = 0; c < 3; c++) above[c] = corners[start[i]][c] + t * f->edges[along[i]][c];
      valid = valid && above[2] <= 0;
      any = any || valid;
      double x = above[0] - above[2] * f->normal[0] / f->normal[2], y = above[1] - above[2] * f->normal[1] / f->normal[2];
      out[2 * i + k] = halfway(above, x, y, above[2] * scale, valid);
    }
  }
  return any;
}

// Corners of the reference face that the image covers; for edges that do not cross also those beside it: four points.
static int find_own_corners(const Faces* f, double image[4][2], int is_edges, int no_cut, Point* out) {
  const double a[2] = {image[1][0] - image[0][0], image[1][1] - image[0][1]};
  const double b[2] = {image[2][0] - image[0][0], image[2][1] - image[0][1]};
  double area = a[0] * b[1] - a[1] * b[0];
  int both = f->bounds[0] && f->bounds[1], any = 0;
  for (int i = 0; i < 4; i++) {
    const double own[2] = {i < 2 ? -f->half[0] : f->half[0], i % 2 ? f->half[1] : -f->half[1]};
    double x = own[0] - image[0][0], y = own[1] - image[0][1], divisor = area == 0 ? 1 : area, above[3];
    double u = (x * b[1] - y * b[0]) / divisor, v = (-x * a[1] + y * a[0]) / divisor;
    int covered = is_edges ? all_or_any(u >= 0 && u <= 1, v >= 0 && v <= 1, no_cut)
                           : both && u > 0 && u < 1 && v > 0 && v < 1;
    for (int c = 0; c < 3; c++) above[c] = f->corner[c] + clip(u, 0, 1) * f->edges[0][c] + clip(v, 0, 1) * f->edges[1][c];
    double gap = square(above[0] - own[0]) + square(above[1] - own[1]) + square(above[2]);
    if (covered && is_edges) area = gap;
    int valid = covered && above[2] <= 0;
    any = any || valid;
    out[i] = halfway(above, own[0], own[1], -sqrt(gap) * (is_edges ? 1 : 0.5), valid);
  }
  return any;
}

// Corners of the incident face over the reference face; the deepest one of a face contact wherever it is: four points.
static void find_its_corners(const Faces* f, double corners[4][3], double image[4][2], int is_edges, int no_cut,
                             int no_own, Point* out) {
  int allowed[4] = {1, f->bounds[0], f->bounds[1], f->bounds[0] && f->bounds[1]};
  for (int i = 0; i < 4; i++) {
    double x = image[i][0], y = image[i][1];
    int valid;
    if (is_edges) {
      valid = all_or_any(fabs(x) <= f->half[0], fabs(y) <= f->half[1], no_cut) || (no_cut && no_own);
      x = clip(x, -f->half[0], f->half[0]);
      y = clip(y, -f->half[1], f->half[1]);
    } else {
      valid = allowed[i] && (i == 0 || (fabs(x) < f->half[0] && fabs(y) < f->half[1]));
    }
    double gap = sqrt(square(image[i][0] - x) + square(image[i][1] - y) + square(corners[i][2] / f->normal[2]));
    out[i] = halfway(corners[i], x, y, -gap * (is_edges ? 1 : 0.5), valid && corners[i][2] <= 0);
  }
}

static void find_candidates(const Faces* f, int is_edges, Point out[CANDIDATES]) {
  double corners[4][3], image[4][2];
  for (int i = 0; i < 4; i++) {
    for (int c = 0; c < 3; c++) corners[i][c] = f->corner[c] + (i % 2) * f->edges[0][c] + (i / 2) * f->edges[1][c];
    for (int c = 0; c < 2; c++) image[i][c] = corners[i][c] - corners[i][2] * (f->normal[c] / f->normal[2]);
  }
  int no_cut = !find_cuts(f, corners, image, is_edges, out);
  int no_own = !find_own_corners(f, image, is_edges, no_cut, out + 8);
  find_its_corners(f, corners, image, is_edges, no_cut, no_own, out + 12);
}

// Whether a point is well outside one box and not well inside the other.
static int outside(const double in_base[3], const double in_other[3], Shape base, Shape other) {
  int far_1 = 0, far_2 = 0, in_1 = 1, in_2 = 1;
  for (int i = 0; i < 3; i++) {
    far_1 = far_1 || fabs(in_base[i]) > base.size[i] * KEEP;
    far_2 = far_2 || fabs(in_other[i]) > other.size[i] * KEEP;
    in_1 = in_1 && fabs(in_base[i]) < base.size[i] / KEEP;
    in_2 = in_2 && fabs(in_other[i]) < other.size[i] / KEEP;
  }
  return (far_1 && !in_2) || (far_2 && !in_1);
}

// Whether a later valid point is at the same place.
static int repeated(double local[CANDIDATES][3], const Point points[CANDIDATES], int i, double tolerance) {
  for (int j = i + 1; j < CANDIDATES; j++)
    if (points[j].valid && fabs(local[i][0] - local[j][0]) <= tolerance && fabs(local[i][1] - local[j][1]) <= tolerance &&
        fabs(local[i][2] - local[j][2]) <= tolerance)
      return 1;
  return 0;
}

int box_box_contacts(Shape first, Shape second, Contact* contacts) {
  Axis axis = least_overlap(first, second);
  if (axis.overlap < 0) return 0;
  Shape base = axis.second ? second : first, other = axis.second ? first : second;
  int out = largest(axis.direction), count = 0;
  const double(*to_face)[3] = TURNS[out + 3 * (axis.direction[out] < 0)];
  double height = base.size[out], local[CANDIDATES][3], world[CANDIDATES][3], normal[3], reach = 0;
  Faces faces = meet(&axis, base, other, to_face, height);
  Point points[CANDIDATES];
  find_candidates(&faces, axis.is_edges, points);

  for (int i = 0; i < 3; i++) {
    reach += first.size[i] + second.size[i];
    normal[i] = dot(base.mat + 3 * i, axis.direction) * (axis.second ? -1 : 1);
  }
  for (int i = 0; i < CANDIDATES; i++) {
    double from_other[3], in_other[3];
    points[i].pos[2] += height;
    to_local(local[i], (const double*)to_face, points[i].pos);
    for (int c = 0; c < 3; c++) world[i][c] = base.pos[c] + dot(base.mat + 3 * c, local[i]);
    subtract(from_other, world[i], other.pos);
    to_local(in_other, other.mat, from_other);
    points[i].valid = points[i].valid && !outside(local[i], in_other, base, other);
  }
  for (int i = 0; i < CANDIDATES; i++) {
    if (!points[i].valid || repeated(local, points, i, 16 * EPSILON * reach)) continue;
    set_contact(contacts + count++, points[i].dist, world[i], normal);
  }
  return count;
}
