// What the colliders share: the form of a contact in the installed release of MuJoCo, shapes, and vectors.

#ifndef JSAFE_CONTACTS_H_
#define JSAFE_CONTACTS_H_

#include <math.h>
#include <string.h>

#include <mujoco/mujoco.h>

#if mjVERSION_HEADER >= 3009000
typedef mjPreContact Contact;  // since 3.9
#else
typedef mjContact Contact;
#endif

#define EPSILON 2.220446049250313e-16
#define MAX_CONTACTS 16  // of any pair here

typedef struct {
  const double* pos;   // [3] centre
  const double* mat;   // [3 * 3], axes in columns
  const double* size;  // [3] half-lengths of a box; radius and half-length of a cylinder or capsule
} Shape;

// Each writes the contacts of two shapes and returns their number.
int box_box_contacts(Shape first, Shape second, Contact* contacts);
int cylinder_box_contacts(Shape first, Shape second, Contact* contacts);
int cylinder_cylinder_contacts(Shape first, Shape second, Contact* contacts);
int capsule_cylinder_contacts(Shape first, Shape second, Contact* contacts);

static inline double dot(const double a[3], const double b[3]) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static inline double square(double x) { return x * x; }

static inline double clip(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

// out = transposed(mat) v
static inline void to_local(double out[3], const double* mat, const double v[3]) {
  for (int i = 0; i < 3; i++) out[i] = mat[i] * v[0] + mat[3 + i] * v[1] + mat[6 + i] * v[2];
}

// out = transposed(a) b
static inline void relative(double out[3][3], const double* a, const double* b) {
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) out[i][j] = a[i] * b[j] + a[3 + i] * b[3 + j] + a[6 + i] * b[6 + j];
}

static inline void subtract(double out[3], const double a[3], const double b[3]) {
  for (int i = 0; i < 3; i++) out[i] = a[i] - b[i];
}

static inline void cross(double out[3], const double a[3], const double b[3]) {
  for (int i = 0; i < 3; i++) out[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

// out = mat v
static inline void to_world(double out[3], const double* mat, const double v[3]) {
  for (int i = 0; i < 3; i++) out[i] = dot(mat + 3 * i, v);
}

// Unit vector; zero for zero.
static inline void unit(double out[3], const double v[3]) {
  double square = dot(v, v), scale = square == 0 ? 0 : 1 / sqrt(square);
  for (int i = 0; i < 3; i++) out[i] = v[i] * scale;
}

static inline void set_contact(Contact* contact, double dist, const double pos[3], const double normal[3]) {
  contact->dist = dist;
  memcpy(contact->pos, pos, 3 * sizeof(double));
#if mjVERSION_HEADER >= 3009000
  memcpy(contact->normal, normal, 3 * sizeof(double));
  memset(contact->tangent, 0, sizeof(contact->tangent));
#else
  memset(contact->frame, 0, sizeof(contact->frame));
  memcpy(contact->frame, normal, 3 * sizeof(double));
#endif
}

#endif  // JSAFE_CONTACTS_H_
